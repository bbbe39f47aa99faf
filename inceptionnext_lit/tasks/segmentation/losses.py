"""Training losses of segmentation; pixels of 255 are ignored in all of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED

PixelLoss = Literal["cross_entropy", "ohem", "dice", "lovasz", "focal"]
_OF_SMP: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dice": ("DiceLoss", {"ignore_index": IGNORED}),
    "lovasz": ("LovaszLoss", {"ignore_index": IGNORED, "per_image": False}),
    "focal": ("FocalLoss", {"ignore_index": IGNORED}),
}


@dataclass(frozen=True)
class PixelLossOptions:
    """The training loss: a weighted sum.

    Args:
        weights: Weight of each part: ``cross_entropy``; ``ohem``, cross-entropy of the hardest pixels (arXiv
            1604.03540), both as means over all pixels of a batch, of which ignored ones count as 0; ``dice``,
            ``lovasz`` or ``focal`` of segmentation_models_pytorch.
        class_weights: Weight of each class in cross-entropy, in the order of the classes; None for equal weights.
        ohem_threshold: A pixel is hard if its true class has a lower probability than this.
        ohem_kept: Minimum number of pixels of a batch that count as hard.

    Raises:
        UserError: If a part is unknown, or a value is out of range.
    """

    weights: dict[PixelLoss, float] | None = None
    class_weights: list[float] | None = None
    ohem_threshold: float = 0.7
    ohem_kept: int = 100_000

    def __post_init__(self) -> None:
        for name, weight in self.parts.items():
            if not 0 < weight < math.inf:
                raise UserError(f"model.segmentation.loss.weights.{name} is {weight}; it must be above 0.")
        if self.weights is not None and not self.weights:
            raise UserError("model.segmentation.loss.weights is empty; leave it out for cross-entropy.")
        if self.class_weights is not None and not all(0 <= weight < math.inf for weight in self.class_weights):
            raise UserError("model.segmentation.loss.class_weights must be numbers of 0 or more.")
        if not 0 < self.ohem_threshold <= 1:
            raise UserError(
                f"model.segmentation.loss.ohem_threshold is {self.ohem_threshold}; it must be above 0 and at most 1."
            )
        if self.ohem_kept < 1:
            raise UserError(f"model.segmentation.loss.ohem_kept is {self.ohem_kept}; it must be 1 or more.")

    @property
    def parts(self) -> dict[PixelLoss, float]:
        """The parts and their weights; cross-entropy alone by default."""
        return {"cross_entropy": 1.0} if self.weights is None else self.weights

    def build(self, num_classes: int) -> "SumOfLosses":
        """Create the loss.

        Args:
            num_classes: Number of classes.

        Raises:
            UserError: If there are not as many class weights, or a library is missing.
        """
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise UserError(
                f"model.segmentation.loss.class_weights has {len(self.class_weights)} numbers, but the data has "
                f"{num_classes} classes."
            )
        return SumOfLosses(self)


class SumOfLosses:
    """A weighted sum of losses.

    Args:
        options: Its parts.
    """

    def __init__(self, options: PixelLossOptions) -> None:
        self._options = options
        self._parts = [(weight, self._create(name)) for name, weight in options.parts.items()]

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Compute the loss; 0 if all pixels are ignored.

        Args:
            logits: Shape (N, K, H, W).
            masks: Classes, int64 (N, H, W), 255 for ignored pixels.

        Returns:
            A scalar in single precision.
        """
        logits = logits.float()
        return torch.stack([weight * part(logits, masks) for weight, part in self._parts]).sum()

    def _create(self, name: PixelLoss) -> Callable[[Tensor, Tensor], Tensor]:
        if name == "cross_entropy":
            return self._cross_entropy
        if name == "ohem":
            return self._ohem
        if find_spec("segmentation_models_pytorch") is None:
            raise UserError(
                f"The loss {name} needs segmentation_models_pytorch; install it with "
                "pip install 'inceptionnext-lit[smp]'."
            )
        import segmentation_models_pytorch as smp

        kind, kwargs = _OF_SMP[name]
        loss: Callable[[Tensor, Tensor], Tensor] = getattr(smp.losses, kind)("multiclass", **kwargs)
        # without labeled pixels, some of them are NaN
        return lambda logits, masks: loss(logits, masks) if (masks != IGNORED).any() else logits.sum() * 0.0

    def _cross_entropy(self, logits: Tensor, masks: Tensor) -> Tensor:
        return self._per_pixel(logits, masks).mean()

    def _ohem(self, logits: Tensor, masks: Tensor) -> Tensor:
        counted = masks != IGNORED
        with torch.no_grad():
            classes = masks.masked_fill(~counted, 0)[:, None]
            certain = logits.softmax(dim=1).gather(1, classes)[:, 0].masked_fill(~counted, torch.inf)
            last = counted.sum().clamp(1, self._options.ohem_kept) - 1
            threshold = certain.flatten().sort().values[last].clamp(min=self._options.ohem_threshold)
        return (self._per_pixel(logits, masks) * (certain < threshold)).mean()

    def _per_pixel(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of each pixel, 0 for ignored ones, which count in the means as in MMSegmentation."""
        given = self._options.class_weights
        weight = None if given is None else torch.tensor(given, dtype=logits.dtype, device=logits.device)
        return F.cross_entropy(logits, masks, weight=weight, ignore_index=IGNORED, reduction="none")
