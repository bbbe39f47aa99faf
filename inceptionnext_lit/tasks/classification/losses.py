"""Training losses: single-label or multi-label, with mixed and weighted images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.classification.mixup import Mix

LossName = Literal["cross_entropy", "bce"]


@dataclass(frozen=True)
class LossOptions:
    """The training loss and its soft targets.

    Args:
        name: Cross-entropy, or binary cross-entropy per class (arXiv 2110.00476), which multi-label classification
            always uses.
        label_smoothing: Probability mass of the training targets spread over all classes.
        mix: Mixup and CutMix.

    Raises:
        UserError: If the label smoothing is out of range.
    """

    name: LossName = "cross_entropy"
    label_smoothing: float = 0.0
    mix: Mix = Mix()

    def __post_init__(self) -> None:
        check_choices(self, "model.loss")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"model.loss.label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1."
            )


def image_weights(batch: Sequence[Tensor]) -> Tensor | None:
    """Return the weight of each image of a training batch, its third tensor, or None if it has only two.

    Raises:
        UserError: If the third one is not of floating-point numbers, such as indices.
    """
    if len(batch) < 3:
        return None
    if len(batch) > 3 or not (isinstance(batch[2], Tensor) and batch[2].is_floating_point()):
        kinds = ", ".join(str(getattr(one, "dtype", type(one).__name__)) for one in batch)
        raise UserError(
            "A training batch is images, labels and, if any, weights of the images in floating point, and this one is "
            f"{kinds}; leave out what else the data set returns."
        )
    return batch[2]


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    name: LossName,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Compute the mean training loss of a batch in single precision, or in double precision for double logits.

    Args:
        logits: Shape (N, K).
        targets: Class indices of shape (N,), or probabilities of shape (N, K) for mixed or multi-label images.
        name: ``"cross_entropy"``; or ``"bce"``, the binary cross-entropy averaged over images and classes (arXiv
            2110.00476, section 2.1).
        label_smoothing: Probability mass s spread over all classes: q · (1 - s) + s / K.
        weights: Weight of each image, shape (N,); the result is the mean of weight times loss.

    Returns:
        A scalar.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = targets.to(logits.dtype) if targets.is_floating_point() else targets
    if name == "cross_entropy":
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return (weights * F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")).mean()
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = F.one_hot(targets, classes)
    smoothed = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / classes
    if weights is not None:
        return (weights[:, None] * F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")).mean()
    loss: Tensor = BinaryCrossEntropy(smoothing=0.0)(logits, smoothed)
    return loss
