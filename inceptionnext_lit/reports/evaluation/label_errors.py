"""Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang, 2021)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.table import PredictionTable

METHOD = (
    "confident learning: images of which another class is more probable than it usually is for its own images, ranked "
    "by the probability of their label"
)


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label is probably wrong.

    Attributes:
        images: Indices of the images, the most suspicious first.
        suggested: The class that each probably has.
        thresholds: Mean probability of each class over the images labeled with it, (K,); NaN without images.
    """

    images: NDArray[np.int64]
    suggested: NDArray[np.int64]
    thresholds: NDArray[np.float64]


def find_label_errors(table: PredictionTable) -> LabelErrors:
    """Find labels that are probably wrong.

    An image is suspected if the most probable of the classes that exceed their threshold is not its label; a class's
    threshold is the mean of its probability over the images labeled with it. The predictions should be of models that
    have not been trained on the images, such as those of a cross-validation.

    Args:
        table: Single-label predictions.
    """
    count, classes = len(table), len(table.class_names)
    own = table.probabilities[np.arange(count), table.labels].astype(np.float64)
    images = np.bincount(table.labels, minlength=classes)
    sums = np.bincount(table.labels, weights=own, minlength=classes)
    thresholds = np.where(images > 0, sums / np.maximum(images, 1), np.nan)
    limits = np.nan_to_num(thresholds, nan=np.inf).astype(np.float32)
    confident = np.where(table.probabilities >= limits, table.probabilities, -1)
    best = confident.argmax(axis=1)
    suspected = np.flatnonzero((confident.max(axis=1) >= 0) & (best != table.labels))
    order = suspected[np.argsort(own[suspected], kind="stable")]
    return LabelErrors(order, best[order], thresholds)
