"""Metrics that are computed on the device without synchronizing it.

torchmetrics reads the values of losses and labels, and the largest label to count them, each of which synchronizes the
GPU.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from inceptionnext_lit.preprocessing import NOT_COUNTED


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype for sums: double precision, or single on devices without it (Apple's GPUs, some of Intel's).

    Args:
        device: The device of the sums.
    """
    try:
        (torch.ones(1, dtype=torch.float64, device=device) + 1).sum()
    except (TypeError, RuntimeError):
        return torch.float32
    return torch.float64


class CountedAccuracy(MulticlassAccuracy):
    """torchmetrics' accuracy, without images with the label ``NOT_COUNTED``.

    Args:
        num_classes: Number of classes K.
        average: ``micro`` is over images, ``macro`` is the mean of the recalls of the classes that have images.
        top_k: Number of most probable classes among which the target must be; more than one only with ``micro``.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Logits of shape (N, K).
            target: Class indices of shape (N,).
        """
        counted = target != NOT_COUNTED
        best = preds.topk(self.top_k, dim=1).indices if self.top_k > 1 else preds.argmax(dim=1, keepdim=True)
        hits = (best == target[:, None]).any(dim=1)
        misses = counted & ~hits
        label = target.clamp(min=0)
        # without false positives, macro leaves out classes without images, also if they were predicted
        for state, found in ((self.tp, hits), (self.fn, misses)):
            of_state = cast(Tensor, state)
            if of_state.numel() == 1:
                of_state += found.sum()
            else:
                of_state.index_add_(0, label, found.to(of_state.dtype))


class MeanLoss(Metric):
    """Mean loss over the images of all batches and ranks."""

    full_state_update = False
    higher_is_better = False
    total: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, losses: Tensor, images: Tensor | int) -> None:
        """Add a batch.

        Args:
            losses: The losses of its images, or their sum, of any shape.
            images: The number of images.
        """
        self.total += losses.detach().to(self.total.dtype).sum()
        self.images += images

    def compute(self) -> Tensor:
        """Return the mean; NaN without images."""
        return self.total / self.images
