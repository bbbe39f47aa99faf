"""Training losses of segmentation; pixels of 255 are ignored in all of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED

PixelLoss = Literal["cross_entropy", "ohem", "dice", "lovasz", "focal"]
_BOUNDS = (0.1, 10.0)  # of balanced weights
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
        class_weights: Weight of each class in cross-entropy, in the order of the classes; ``auto`` for those of
            :func:`balanced_weights`, from the training masks; None for equal weights.
        ohem_threshold: A pixel is hard if its true class has a lower probability than this.
        ohem_kept: Minimum number of pixels of a batch that count as hard.

    Raises:
        UserError: If a part is unknown, or a value is out of range.
    """

    weights: dict[PixelLoss, float] | None = None
    class_weights: list[float] | Literal["auto"] | None = None
    ohem_threshold: float = 0.7
    ohem_kept: int = 100_000

    def __post_init__(self) -> None:
        check_choices(self, "model.segmentation.loss")
        for name, weight in self.parts.items():
            if not 0 < weight < math.inf:
                raise UserError(f"model.segmentation.loss.weights.{name} is {weight}; it must be above 0.")
        if self.weights is not None and not self.weights:
            raise UserError("model.segmentation.loss.weights is empty; leave it out for cross-entropy.")
        if isinstance(self.class_weights, list) and not all(0 <= weight < math.inf for weight in self.class_weights):
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
        if isinstance(self.class_weights, list) and len(self.class_weights) != num_classes:
            raise UserError(
                f"model.segmentation.loss.class_weights has {len(self.class_weights)} numbers, but the data has "
                f"{num_classes} classes."
            )
        return SumOfLosses(self)


def balanced_weights(pixels: Sequence[Mapping[int, int]], num_classes: int) -> list[float]:
    """Return class weights by median-frequency balancing (arXiv 1411.4734, section 3.4), bounded.

    A class's frequency is its share of the labeled pixels of the images that it occurs in. Its weight is the median of
    the frequencies, divided by its own: at least 0.1 and at most 10, and 1 for a class that does not occur. Then all
    are divided by their mean over labeled pixels, so that the loss keeps its scale.

    Args:
        pixels: Labeled pixels of each class in each training image.
        num_classes: Number of classes.
    """
    own, around = [0] * num_classes, [0] * num_classes
    for of in pixels:
        total = sum(of.values())
        for index, count in of.items():
            own[index] += count
            around[index] += total
    middle = median(mine / all_ for mine, all_ in zip(own, around, strict=True) if mine)
    low, high = _BOUNDS
    weights = [
        min(high, max(low, middle * all_ / mine)) if mine else 1.0 for mine, all_ in zip(own, around, strict=True)
    ]
    mean = sum(weight * mine for weight, mine in zip(weights, own, strict=True)) / sum(own)
    return [round(weight / mean, 4) for weight in weights]


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
        weight = torch.tensor(given, dtype=logits.dtype, device=logits.device) if isinstance(given, list) else None
        return F.cross_entropy(logits, masks, weight=weight, ignore_index=IGNORED, reduction="none")
