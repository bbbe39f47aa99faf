"""Accuracy that is counted on the device alone."""

from typing import cast

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy


class CountedAccuracy(MulticlassAccuracy):
    """torchmetrics' accuracy with a count that does not stall: the host never waits for the device.

    torchmetrics looks at the values of labels, and at the largest one to count them, for which the host has to wait for
    all that a GPU was asked to do.

    Args:
        num_classes: Number of classes K.
        average: ``micro`` counts images, ``macro`` is the mean of the classes' recalls.
        top_k: How many of the most probable classes may be right; more than one with ``micro`` only.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            preds: Logits of shape (N, K).
            target: Class indices of shape (N,).
        """
        best = preds.topk(self.top_k, dim=1).indices if self.top_k > 1 else preds.argmax(dim=1, keepdim=True)
        hits = (best == target[:, None]).any(dim=1)
        for state, classes, counted in (
            (self.tp, target, hits),
            (self.fn, target, ~hits),
            (self.fp, best[:, 0], ~hits),  # a class that no image has, but which was named, counts in macro
        ):
            of_state = cast(Tensor, state)
            if of_state.numel() == 1:
                of_state += counted.sum()
            else:
                of_state.index_add_(0, classes, counted.to(torch.long))
