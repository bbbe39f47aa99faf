"""How well objects are segmented, by their size. An object is a connected part of a class in a mask."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.preprocessing import IGNORED

SIZES: Final = ("small", "medium", "large")
LIMITS: Final = (32**2 / (640 * 480), 96**2 / (640 * 480))
"""Shares of an image below which an object is small and medium: COCO's 32² and 96² pixels in an image of 640×480."""

NUMBER, FOUND, RECALL, IOU = range(4)
"""The sums over objects: their number, how many have an IoU of 0.5 or more, their recalls, and their IoUs."""

_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)
_MATCH = 0.5


def measure_objects(true: NDArray[np.uint8], predicted: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """Measure the objects of an image.

    The recall of an object is the share of its pixels that have its class in the prediction. Its IoU is with the
    connected part of the prediction, of the same class, for which it is the highest. Ignored pixels do not count.

    Args:
        true: True classes (H, W), 255 for ignored pixels.
        predicted: Predicted classes (H, W).
        num_classes: Number of classes K.

    Returns:
        Sums over objects by class and size, (K, 3, 4); see :data:`NUMBER`.
    """
    sums = np.zeros((num_classes, len(SIZES), 4))
    predicted = np.where(true == IGNORED, np.uint8(IGNORED), predicted)
    limits = np.array(LIMITS) * true.size
    for k in np.flatnonzero(np.bincount(true.ravel(), minlength=256)[:num_classes]).tolist():
        inside, found = true == k, predicted == k
        box = _box(inside | found)
        areas, recalls, ious = _objects(inside[box], found[box])
        sizes = np.searchsorted(limits, areas, side="right")
        for place, values in enumerate((None, ious >= _MATCH, recalls, ious)):
            sums[k, :, place] = np.bincount(sizes, values, minlength=len(SIZES))
    return sums


def _box(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _objects(
    inside: NDArray[np.bool_], found: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the area, recall and IoU of each connected part of a region, given the predicted region."""
    from scipy.ndimage import label  # slow to import

    parts, number = label(inside, _EIGHT_NEIGHBORS)
    guesses, guessed = label(found, _EIGHT_NEIGHBORS)
    areas = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    others = np.bincount(guesses.ravel(), minlength=guessed + 1)
    both = inside & found
    pairs = parts[both].astype(np.int64) * (guessed + 1) + guesses[both]
    codes, shared = np.unique(pairs, return_counts=True)
    part, guess = codes // (guessed + 1) - 1, codes % (guessed + 1)
    right = np.bincount(part, shared, minlength=number)
    ious = np.zeros(number)
    np.maximum.at(ious, part, shared / (areas[part] + others[guess] - shared))
    return areas, right / areas, ious
