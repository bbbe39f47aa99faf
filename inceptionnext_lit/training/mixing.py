"""Mixup and CutMix on whole batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class Mix:
    """How pairs of training images are mixed (paper, section 4.1: mixup 0.8, CutMix 1.0).

    Args:
        mixup: Parameter of mixup's Beta distribution; 0 leaves mixup out.
        cutmix: Parameter of CutMix's Beta distribution; 0 leaves CutMix out.
        prob: Probability that a batch is mixed at all.
        switch_prob: Probability of CutMix when both are on.

    Raises:
        UserError: If a parameter is negative or a probability is outside [0, 1].
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"model.mix.{name} is {getattr(self, name)}; it must be 0 (off) or more.")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"model.mix.{name} is {getattr(self, name)}; a probability lies between 0 and 1.")

    @property
    def active(self) -> bool:
        """Whether any batch is ever mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    def __call__(
        self, images: Tensor, labels: Tensor, num_classes: int, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mix a batch with itself.

        Args:
            images: Batch of shape (N, C, H, W).
            labels: Class indices of shape (N,), or several labels' vectors of shape (N, K).
            num_classes: Number of classes K.
            weights: How much each image counts, of shape (N,), if not all count the same.

        Returns:
            The images and, where the batch was mixed, targets of shape (N, K), whose rows sum to 1 where each image has
            one class, and the weights mixed likewise; otherwise all as they came. The layout in memory stays.
        """
        if not self.active or torch.rand(()) >= self.prob:
            return images, labels, weights
        use_cutmix = self.cutmix > 0 and (self.mixup == 0 or bool(torch.rand(()) < self.switch_prob))
        classes = num_classes if weights is None else None  # torchvision then takes vectors of any length
        if use_cutmix:
            return _mixed(v2.CutMix(alpha=self.cutmix, num_classes=classes), images, labels, num_classes, weights)
        mix = v2.MixUp(alpha=self.mixup, num_classes=classes)
        if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
            return _mixed(mix, images, labels, num_classes, weights)
        # torch.roll lays its result out anew on a GPU; seen as (N, H, W, C) the images are laid out as it does it
        inputs, targets, weights = _mixed(mix, images.permute(0, 2, 3, 1), labels, num_classes, weights)
        return inputs.permute(0, 3, 1, 2), targets, weights


def _mixed(
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    if weights is None:
        return (*mix(images, labels), None)
    targets = F.one_hot(labels, num_classes) if labels.ndim == 1 else labels
    inputs, mixed = mix(images, torch.cat([targets.to(weights.dtype), weights[:, None]], dim=1))
    return inputs, mixed[:, :-1], mixed[:, -1]
