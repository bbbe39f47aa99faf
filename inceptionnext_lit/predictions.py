"""The predictions of a model for a batch, of torch or of NumPy; this module does not import torch."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

TOP = 5
"""Number of the most probable classes that are kept."""


class Predictions(TypedDict):
    """Tensors or arrays for a batch of N images; k is 5, or the number of classes if fewer.

    Attributes:
        paths: The N files.
        finite: Whether the logits were finite, shape (N,); if not, the other values are invalid.
        classes: Indices of the k most probable classes, shape (N, k), best first.
        probabilities: Their probabilities, shape (N, k).
        scores: The probabilities of all classes in index order, float32 of shape (N, classes).
        present: If multi-label, whether the probability of each class reaches its threshold, shape (N, classes);
            otherwise None.
    """

    paths: list[str]
    finite: Any
    classes: Any
    probabilities: Any
    scores: Any
    present: Any


class MaskPredictions(NamedTuple):
    """The predicted masks of a batch of N images.

    Attributes:
        paths: The N files.
        masks: Class indices of each, uint8 (H, W), of the image's own size.
        confidences: Mean over the pixels of the probability of the predicted class; NaN if the model's outputs are NaN
            or infinite, or the image has none.
        reasons: Why an image has no mask, by its file, as a sentence.
    """

    paths: list[str]
    masks: list[NDArray[np.uint8]]
    confidences: list[float]
    reasons: Mapping[str, str] = MappingProxyType({})


def rank_arrays(
    scores: "np.ndarray", paths: list[str], *, multi_label: bool = False, thresholds: Sequence[float] | None = None
) -> Predictions:
    """Select the best classes of each image, as :func:`inceptionnext_lit.tasks.classification.predictions.rank` does.

    Args:
        scores: Probabilities, float32 of shape (N, classes); NaN where the logits were not finite.
        paths: The N files.
        multi_label: Whether an image may have several labels.
        thresholds: The score from which on each label is present; one half by default.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    limits = np.asarray(thresholds or [0.5], scores.dtype)
    return {
        "paths": paths,
        "finite": np.isfinite(scores).all(axis=1),
        "classes": best,
        "probabilities": np.take_along_axis(scores, best, axis=1),
        "scores": scores,
        "present": scores >= limits if multi_label else None,
    }


def labels(predictions: Predictions, class_names: Sequence[str]) -> list[str]:
    """Return the label of each image: the most probable class, or if multi-label all present ones as ``cat|dog``.

    Args:
        predictions: The predictions of a batch.
        class_names: Names in the order of the indices.
    """
    return ["|".join(names) for names in present_labels(predictions, class_names)]


def present_labels(predictions: Predictions, class_names: Sequence[str]) -> list[list[str]]:
    """Return all present labels of each image, or the most probable class if there is one label per image.

    Args:
        predictions: The predictions of a batch.
        class_names: Names in the order of the indices.
    """
    if predictions["present"] is None:
        return [[class_names[index]] for index in predictions["classes"][:, 0].tolist()]
    return [
        [name for name, is_present in zip(class_names, image, strict=True) if is_present]
        for image in predictions["present"].tolist()
    ]


def top_labels(predictions: Predictions, class_names: Sequence[str]) -> list[dict[str, float]]:
    """Return the best labels of each image with their probabilities, best first.

    Args:
        predictions: The predictions of a batch.
        class_names: Names in the order of the indices.
    """
    classes, values = predictions["classes"].tolist(), predictions["probabilities"].tolist()
    return [
        {class_names[index]: value for index, value in zip(*image, strict=True)}
        for image in zip(classes, values, strict=True)
    ]


def all_probabilities(predictions: Predictions, class_names: Sequence[str]) -> list[dict[str, float]]:
    """Return the probability of every class for each image, as the shortest decimal that is exact in single precision.

    Args:
        predictions: The predictions of a batch.
        class_names: Names in the order of the indices.
    """
    scores = predictions["scores"]
    plain = scores if isinstance(scores, np.ndarray) else scores.float().cpu().numpy()
    shortest = plain.astype(str).astype(float)
    return [dict(zip(class_names, image, strict=True)) for image in shortest.tolist()]
