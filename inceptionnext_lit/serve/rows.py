"""Predictions as rows, like those that ``predict`` writes."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from inceptionnext_lit.data.class_words import class_words, joined_words
from inceptionnext_lit.predict.layout import Layout

_DIGITS = 6  # as in the files of predict


class Labeled(Protocol):
    """What a classifier returns for an image; see :class:`~inceptionnext_lit.predict.prediction.Prediction`."""

    @property
    def label(self) -> str:
        """The label."""

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""

    @property
    def top5(self) -> dict[str, float]:
        """The best classes with their probabilities."""


class Segmented(Protocol):
    """What a segmenter returns for an image; see :class:`~inceptionnext_lit.predict.segmentation.Segmentation`."""

    @property
    def confidence(self) -> float:
        """The mean probability of the predicted classes."""

    @property
    def areas(self) -> Mapping[str, float]:
        """Share of the pixels that each class has."""

    def png(self) -> bytes:
        """Return the mask as the content of a PNG file."""


class MaskRowMaker:
    """Make rows of predicted masks.

    Args:
        unsure_below: If set, rows have ``unsure``: whether the confidence is below this.
    """

    def __init__(self, unsure_below: float | None) -> None:
        self._unsure_below = unsure_below

    def row(self, prediction: Segmented) -> dict[str, Any]:
        """Return the row of a prediction, with ``path`` None."""
        row: dict[str, Any] = {"path": None, "confidence": round(prediction.confidence, _DIGITS)}
        if self._unsure_below is not None:
            row["unsure"] = prediction.confidence < self._unsure_below
        row["areas"] = {name: round(share, _DIGITS) for name, share in prediction.areas.items()}
        return row | {"mask": base64.b64encode(prediction.png()).decode()}


class RowMaker:
    """Make rows of predictions.

    Args:
        class_names: The model's classes.
        unsure_below: If set, rows have ``unsure``: whether the best probability is below this.
    """

    def __init__(self, class_names: Sequence[str], unsure_below: float | None) -> None:
        self._unsure_below = unsure_below
        self._layout = Layout(flags_unsure=unsure_below is not None, has_words=any(map(class_words, class_names)))

    def row(self, prediction: Labeled) -> dict[str, Any]:
        """Return the row of a prediction, with ``path`` None."""
        top5 = {name: round(value, _DIGITS) for name, value in prediction.top5.items()}
        values: dict[str, Any] = {
            "path": None,
            "label": prediction.label,
            "probability": round(prediction.probability, _DIGITS),
        }
        values |= {"top5": top5, "words": joined_words(prediction.label) or ""}
        if self._unsure_below is not None:
            values["unsure"] = prediction.probability < self._unsure_below
        return {name: values[name] for name in self._layout.fields}
