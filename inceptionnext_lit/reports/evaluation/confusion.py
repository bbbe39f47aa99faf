"""Which classes are mistaken for which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.table import PredictionTable

SHOWN = 40  # classes up to which the whole matrix is readable


@dataclass(frozen=True)
class Confusion:
    """Numbers of images per true and predicted class.

    Attributes:
        matrix: int64 (K, K): rows are true classes, columns predicted ones.
        shown: Classes to show: all in index order, or the most confused ones, next to what they are confused with.
    """

    matrix: NDArray[np.int64]
    shown: list[int]

    def most_confused(self, label: int) -> tuple[int, int] | None:
        """Return the class that images of a class are most often mistaken for, and how often; None if never."""
        row = self.matrix[label].copy()
        row[label] = 0
        other = int(row.argmax())
        return (other, int(row[other])) if row[other] else None

    def pairs(self, limit: int) -> list[tuple[int, int, int]]:
        """Return the most frequent confusions: true class, predicted class, number of images.

        Args:
            limit: Maximum number of pairs.
        """
        wrong = self.matrix - np.diag(np.diag(self.matrix))
        flat = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        true, predicted = np.unravel_index(flat, wrong.shape)
        found = zip(true.tolist(), predicted.tolist(), wrong[true, predicted].tolist(), strict=True)
        return [pair for pair in found if pair[2]]


def confuse(table: PredictionTable) -> Confusion:
    """Count the confusions of single-label predictions."""
    classes = len(table.class_names)
    flat = np.bincount(table.labels * classes + table.predicted, minlength=classes**2)
    return confusion_of(flat.reshape(classes, classes))


def confusion_of(matrix: NDArray[np.int64]) -> Confusion:
    """Choose the classes to show of a confusion matrix (K, K)."""
    return Confusion(matrix, list(range(len(matrix))) if len(matrix) <= SHOWN else _clustered(matrix))


def _clustered(matrix: NDArray[np.int64]) -> list[int]:
    """Return the classes with the most confusions, ordered so that classes confused with each other are neighbors."""
    from scipy.cluster.hierarchy import leaves_list, linkage  # slow to import
    from scipy.spatial.distance import squareform

    wrong = matrix - np.diag(np.diag(matrix))
    mutual = wrong + wrong.T
    chosen = np.sort(np.argsort(-mutual.sum(axis=1), kind="stable")[:SHOWN])
    near = mutual[np.ix_(chosen, chosen)].astype(np.float64)
    distance = 1 / (1 + near)
    np.fill_diagonal(distance, 0)
    order = leaves_list(linkage(squareform(distance), method="average", optimal_ordering=True))
    return [int(label) for label in chosen[order]]
