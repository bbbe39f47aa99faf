"""Training losses for one label per image, mixed or not."""

from typing import Literal

from timm.loss import BinaryCrossEntropy
from torch import Tensor
from torch.nn import functional as F

LossName = Literal["cross_entropy", "bce"]


def classification_loss(logits: Tensor, targets: Tensor, *, name: LossName, label_smoothing: float = 0.0) -> Tensor:
    """Mean training loss of a batch, in single precision.

    Args:
        logits: Of shape (N, K).
        targets: Class indices of shape (N,), or probabilities of shape (N, K), as mixing gives them.
        name: ``"cross_entropy"``; or ``"bce"``, binary cross-entropy of each class on its own, the mean over images and
            classes (arXiv 2110.00476, section 2.1).
        label_smoothing: Probability mass s that is spread over all classes: q · (1 - s) + s / K.

    Returns:
        A scalar.
    """
    logits = logits.float()
    if name == "cross_entropy":
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = F.one_hot(targets, classes)
    smoothed = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / classes
    loss: Tensor = BinaryCrossEntropy(smoothing=0.0)(logits, smoothed)
    return loss
