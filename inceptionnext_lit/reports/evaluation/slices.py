"""Accuracy on parts of the images, such as small or dark ones, or those of one camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.bootstrap import Array, Bootstrap, wilson
from inceptionnext_lit.reports.evaluation.table import PredictionTable

_QUANTILES = 4
_MOST_VALUES = 50  # of a column of text; a column with more is not a property that divides the images


@dataclass(frozen=True)
class Slice:
    """The images with a property.

    Attributes:
        column: The property.
        value: Its value, or the range of its values.
        images: Number of images.
        accuracy: Top-1 accuracy; for several labels, the share of labels that are right.
        low: Lower end of its interval; NaN for fewer than two images.
        high: Upper end of its interval; NaN for fewer than two images.
    """

    column: str
    value: str
    images: int
    accuracy: float
    low: float
    high: float


def slice_images(table: PredictionTable, correct: NDArray[np.float64], bootstrap: Bootstrap) -> list[Slice]:
    """Return the accuracy by split, group and every other property, worst first.

    Numbers are divided into quarters, and dates in ISO form with more than 50 values into months, or years. A property
    that all images share, or another text with more than 50 values, is left out.

    Args:
        table: The predictions.
        correct: What counts as the accuracy of each image, in [0, 1], (N,).
        bootstrap: How images are resampled.
    """
    properties: dict[str, Sequence[str] | NDArray[np.float64]] = {}
    if len(table.splits):
        properties["split"] = table.splits
    properties |= table.columns
    if table.groups is not None:
        properties["group"] = table.groups
    found: list[Slice] = []
    for name, values in properties.items():
        texts = _quarters(values) if isinstance(values, np.ndarray) else _periods(list(values))
        names, of_image = np.unique(np.array(texts, dtype=str), return_inverse=True)
        if 1 < len(names) <= min(_MOST_VALUES, max(len(table) // 2, 2)):
            found += _of_property(name, [str(one) for one in names], of_image, correct, table, bootstrap)
    return sorted(found, key=lambda one: (one.accuracy, one.column, one.value))


def _of_property(
    column: str,
    names: list[str],
    of_image: NDArray[np.int64],
    correct: NDArray[np.float64],
    table: PredictionTable,
    bootstrap: Bootstrap,
) -> list[Slice]:
    slices = []
    for number, name in enumerate(names):
        members = np.flatnonzero(of_image == number)
        values = correct[members]
        groups = None if table.groups is None else [table.groups[i] for i in members.tolist()]
        low, high = (np.full(1, np.nan),) * 2
        if len(members) > 1 and groups is None and np.isin(values, (0, 1)).all():
            low, high = wilson(values.mean(keepdims=True), np.full(1, len(members)), bootstrap.level)
        elif len(members) > 1:
            low, high = bootstrap.intervals(partial(_mean, values), len(members), groups)
        slices.append(Slice(column, name, len(members), float(values.mean()), float(low[0]), float(high[0])))
    return slices


def _mean(values: Array, weights: Array) -> Array:
    means: Array = (weights @ values / weights.sum(axis=1))[:, None]
    return means


def _periods(texts: list[str]) -> list[str]:
    """Return the month or the year of each text if they are many dates in ISO form; otherwise the texts."""
    if len(set(texts)) <= _MOST_VALUES:
        return texts
    try:
        dates = {text: datetime.fromisoformat(text.strip()) for text in set(texts) if text.strip()}
    except ValueError:
        return texts
    months = {text: f"{date:%Y-%m}" for text, date in dates.items()}
    years = {text: f"{date:%Y}" for text, date in dates.items()}
    named = months if len(set(months.values())) <= _MOST_VALUES else years
    return [named.get(text, "unknown") for text in texts]


def _quarters(values: NDArray[np.float64]) -> list[str]:
    """Return the range of values that each image is in, in four parts of about equal size; ``unknown`` for NaN."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ["unknown"] * len(values)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _QUANTILES + 1)))
    if len(edges) == 1:
        return [f"{edges[0]:g}" if np.isfinite(value) else "unknown" for value in values.tolist()]
    place = np.clip(np.searchsorted(edges, np.nan_to_num(values, nan=edges[0]), side="right") - 1, 0, len(edges) - 2)
    texts = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges.tolist())]
    return [texts[i] if np.isfinite(v) else "unknown" for i, v in zip(place.tolist(), values.tolist(), strict=True)]
