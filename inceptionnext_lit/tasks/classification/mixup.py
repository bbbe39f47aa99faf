"""Mixup and CutMix on whole batches.

Each image's partner is half a batch away, and vice versa. torchvision pairs each image with the previous one, which
with repeated augmentation is mostly the same image; timm reverses the batch, which does the same near the middle.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class Mix:
    """How pairs of training images are mixed (paper, section 4.1: mixup 0.8, CutMix 1.0).

    Args:
        mixup: Parameter of mixup's Beta distribution; 0 disables mixup.
        cutmix: Parameter of CutMix's Beta distribution; 0 disables CutMix.
        prob: Probability that a batch is mixed.
        switch_prob: Probability of CutMix when both are on.
        order: Whether images are mixed before random erasing, as in timm's prefetching loader, or after it, as in
            DeiT's and ConvNeXt's code: a mixed image then has the noise of both.

    Raises:
        UserError: If a parameter is negative or a probability is outside [0, 1].
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5
    order: Literal["before_erasing", "after_erasing"] = "after_erasing"

    def __post_init__(self) -> None:
        check_choices(self, "model.loss.mix")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"model.loss.mix.{name} is {getattr(self, name)}; it must be 0 (off) or more.")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"model.loss.mix.{name} is {getattr(self, name)}; it must be between 0 and 1.")

    @property
    def active(self) -> bool:
        """Whether batches may be mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    def __call__(
        self, images: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mix a batch with itself.

        Args:
            images: Batch of shape (N, C, H, W).
            labels: Class indices of shape (N,), or multi-hot vectors of shape (N, K).
            num_classes: Number of classes K.
            weights: Weight of each image, shape (N,), if they differ.

        Returns:
            If the batch was mixed: the images, targets of shape (N, K), whose rows sum to 1 for single labels, and the
            mixed weights; otherwise the arguments, unchanged. The memory layout of the images is kept.
        """
        if not self.active or torch.rand(()) >= self.prob:
            return images, labels, weights
        targets = F.one_hot(labels, num_classes) if labels.ndim == 1 else labels
        targets = targets.to(torch.float32 if weights is None else weights.dtype)
        if weights is not None:
            targets = torch.cat([targets, weights[:, None]], dim=1)
        if self.cutmix > 0 and (self.mixup == 0 or bool(torch.rand(()) < self.switch_prob)):
            drawn = v2.CutMix(alpha=self.cutmix).make_params([images])
            images, share = _pasted(images, *drawn["box"]), drawn["lam_adjusted"]
        else:
            share = v2.MixUp(alpha=self.mixup).make_params([images])["lam"]
            images = _blended(images, share)
        targets = _blended(targets, share)
        return (images, targets, None) if weights is None else (images, targets[:, :-1], targets[:, -1])


def _partners(batch: Tensor) -> Tensor:
    return batch.roll(len(batch) // 2 or 1, 0)


def _blended(batch: Tensor, share: float) -> Tensor:
    """Blend each item with its partner, keeping a given share of the item."""
    if batch.ndim == 4 and not batch.is_contiguous() and batch.is_contiguous(memory_format=torch.channels_last):
        # on a GPU, torch.roll returns a contiguous result; viewed as (N, H, W, C), the images are contiguous
        return _blended(batch.permute(0, 2, 3, 1), share).permute(0, 3, 1, 2)
    return _partners(batch).mul_(1.0 - share).add_(batch.mul(share))


def _pasted(images: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Paste a rectangle of its partner into each image."""
    pasted = images.clone()
    pasted[..., top:bottom, left:right] = _partners(images[..., top:bottom, left:right])
    return pasted
