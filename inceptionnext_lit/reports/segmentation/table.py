"""What a segmentation model predicted for images, as numbers of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.metrics import ratio

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SceneTable:
    """Predictions for N images with masks of K classes. Ignored pixels do not count anywhere.

    Attributes:
        class_names: Class names in index order.
        paths: The image files.
        splits: Split of each image; empty if there are none.
        sizes: Width and height of each image, (N, 2).
        right: Pixels of each class that are predicted as it, (N, K).
        true: Pixels of each class, (N, K).
        found: Pixels predicted as each class, (N, K).
        losses: Sum over pixels of the negative log-likelihood, (N,); NaN if probabilities are not known.
        matrix: Pixels by true class (rows) and predicted class (columns), over all images, (K, K).
        boundary: F1 of the second class's boundary, NaN without one, (N,); None unless there are two classes.
        objects: Sums over the objects of each image by size, (N, 3, 4); see ``reports.segmentation.objects``. None if
            objects were not measured.
        class_objects: The same over all images by class and size, (K, 3, 4).
    """

    class_names: list[str]
    paths: list[str]
    splits: Sequence[str]
    sizes: Counts
    right: Counts
    true: Counts
    found: Counts
    losses: Floats
    matrix: Counts
    boundary: Floats | None = None
    objects: Floats | None = None
    class_objects: Floats | None = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @cached_property
    def labeled(self) -> Counts:
        """Number of labeled pixels of each image, (N,)."""
        labeled: Counts = self.true.sum(axis=1)
        return labeled

    @cached_property
    def iou(self) -> Floats:
        """IoU of each class in each image, (N, K); NaN for a class that is in neither mask."""
        return ratio(self.right, self.true + self.found - self.right)

    @cached_property
    def mean_iou(self) -> Floats:
        """The mean IoU of each image over its classes, (N,); NaN for an image without labeled pixels."""
        iou = self.iou
        there = np.isfinite(iou)
        return ratio(np.where(there, iou, 0).sum(axis=1), there.sum(axis=1))

    @cached_property
    def accuracy(self) -> Floats:
        """The share of right pixels of each image, (N,); NaN for an image without labeled pixels."""
        return ratio(self.right.sum(axis=1), self.labeled)

    @cached_property
    def worst_class(self) -> Counts:
        """The class in each image's mask with the lowest IoU, of those the largest, (N,); -1 without labeled pixels."""
        iou = np.where(self.true > 0, self.iou, np.inf)
        lowest = iou == iou.min(axis=1, keepdims=True)
        worst = np.where(lowest, self.true, -1).argmax(axis=1)
        return np.where(self.labeled > 0, worst, -1)

    def worst(self) -> list[int]:
        """Return the images with labeled pixels by ascending mean IoU."""
        order = np.argsort(self.mean_iou, kind="stable")
        return [index for index in order.tolist() if self.labeled[index]]
