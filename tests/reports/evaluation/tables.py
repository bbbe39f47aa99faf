"""Random predictions."""

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.table import PredictionTable, log_softmax


def names(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


def single_label(
    images: int, classes: int, *, seed: int = 0, strength: float = 1.3, ties: bool = False
) -> PredictionTable:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes))
    logits[np.arange(images), labels] += strength
    if ties:
        logits = np.round(logits)
    return of_logits(logits, labels)


def of_logits(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> PredictionTable:
    paths = [f"image {number}.png" for number in range(len(labels))]
    return PredictionTable(names(logits.shape[1]), paths, labels, log_softmax(logits).astype(np.float32))


def multi_label(images: int, classes: int, *, seed: int = 0) -> PredictionTable:
    rng = np.random.default_rng(seed)
    labels = rng.random((images, classes)) < 0.3
    logits = (rng.normal(size=(images, classes)) + 2 * labels - 0.5).astype(np.float32)
    return PredictionTable(names(classes), [f"{number}.png" for number in range(images)], labels, logits)
