"""The metric of a data set, from the scores of its classes."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError

Metric = Literal["acc1", "macro_acc", "mAP"]
Targets = NDArray[np.int64] | NDArray[np.bool_]
"""Class indices (N,), or for several labels per image, which it has (N, K)."""

METRICS: dict[Metric, str] = {"acc1": "top-1 accuracy", "macro_acc": "mean per-class accuracy", "mAP": "mAP"}


def measure(metric: Metric, scores: NDArray[np.floating], targets: Targets) -> float:
    """Return a metric as a fraction.

    Args:
        metric: ``acc1``, the share of images whose best class is right; ``macro_acc``, the mean of that share over the
            classes with images; or ``mAP``, the mean of the average precision over the labels with images.
        scores: Score of each class, (N, K); larger is better, on any scale.
        targets: The classes, (N,) or (N, K).

    Raises:
        UserError: If there are no images, or a score is NaN.
    """
    if not len(scores):
        raise UserError("There are no images to measure the metric on.")
    if np.isnan(scores).any():
        raise UserError("The scores of some classes are NaN.")
    if metric == "mAP":
        return _mean_average_precision(scores, targets)
    right = scores.argmax(axis=1) == targets
    if metric == "acc1":
        return float(right.mean())
    images = np.bincount(targets, minlength=scores.shape[1])
    return float((np.bincount(targets, weights=right, minlength=len(images))[images > 0] / images[images > 0]).mean())


def _mean_average_precision(scores: NDArray[np.floating], targets: Targets) -> float:
    from sklearn.metrics import average_precision_score  # slow to import

    labels = [label for label in range(scores.shape[1]) if targets[:, label].any()]
    if not labels:
        raise UserError("No image has a label, so mAP is not defined.")
    return float(np.mean([average_precision_score(targets[:, label], scores[:, label]) for label in labels]))
