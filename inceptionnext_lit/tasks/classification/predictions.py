"""The predictions of a classifier for a batch."""

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

_TOP = 5


class Predictions(TypedDict):
    """The result of ``predict_step`` for a batch of N images; k is 5, or the number of classes if fewer.

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
    finite: Tensor
    classes: Tensor
    probabilities: Tensor
    scores: Tensor
    present: Tensor | None


def rank(
    scores: Tensor, paths: list[str], *, multi_label: bool = False, thresholds: Sequence[float] | None = None
) -> Predictions:
    """Select the best classes of each image.

    Args:
        scores: Probabilities, shape (N, classes); NaN where the logits were not finite.
        paths: The N files.
        multi_label: Whether an image may have several labels.
        thresholds: The score from which on each label is present; one half by default.
    """
    top = scores.topk(min(_TOP, scores.shape[1]), dim=1)
    limits = scores.new_tensor(thresholds or [0.5])
    present = scores >= limits if multi_label else None
    finite = scores.isfinite().all(dim=1)
    return {
        "paths": paths,
        "finite": finite,
        "classes": top.indices,
        "probabilities": top.values,
        "scores": scores,
        "present": present,
    }


def labels(predictions: Predictions, class_names: Sequence[str]) -> list[str]:
    """Return the label of each image: the most probable class, or if multi-label all present ones as ``cat|dog``.

    Args:
        predictions: The result of :func:`rank`.
        class_names: Names in the order of the indices.
    """
    return ["|".join(names) for names in present_labels(predictions, class_names)]


def present_labels(predictions: Predictions, class_names: Sequence[str]) -> list[list[str]]:
    """Return all present labels of each image, or the most probable class if there is one label per image.

    Args:
        predictions: The result of :func:`rank`.
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
        predictions: The result of :func:`rank`.
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
        predictions: The result of :func:`rank`.
        class_names: Names in the order of the indices.
    """
    shortest = predictions["scores"].float().cpu().numpy().astype(str).astype(float)
    return [dict(zip(class_names, image, strict=True)) for image in shortest.tolist()]
