"""Evaluation of whole images: at once or in windows, at several scales, mirrored, as MMSegmentation does it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.segmenter import resized
from inceptionnext_lit.preprocessing import Size

_REDUCTIONS = (8, 4, 2)

Segment = Callable[[Tensor], Tensor]
"""Takes images (N, C, H, W) and returns logits (N, K, h, w)."""


@dataclass(frozen=True)
class InferenceOptions:
    """How an image is segmented in evaluation and prediction.

    Args:
        mode: ``whole`` segments an image at once; ``slide`` in overlapping windows, whose logits are averaged.
        window: Height and width of a window; None for the training crop.
        stride: Vertical and horizontal distance of windows; None for two thirds of the window.
        scales: Factors of the test scale; the original image is resized to each, and the probabilities are averaged.
        flip: Whether to average with the mirrored image.
        multiple: Images are resized to sides that are a multiple of this, such as 32 (PoolFormer's ``AlignResize``).

    Raises:
        UserError: If a value is out of range.
    """

    mode: Literal["whole", "slide"] = "whole"
    window: list[int] | None = None
    stride: list[int] | None = None
    scales: list[float] | None = None
    flip: bool = False
    multiple: int = 1

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            pair = getattr(self, name)
            if pair is not None and (len(pair) != 2 or min(pair) < 1):
                raise UserError(f"model.segmentation.inference.{name} is {pair}; it must be two numbers of 1 or more.")
        if self.window and self.stride and any(s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise UserError(
                f"model.segmentation.inference.stride {self.stride} is larger than the window {self.window}, so pixels "
                "would be left out; lower it."
            )
        if self.scales is not None and not (self.scales and all(0 < scale < math.inf for scale in self.scales)):
            raise UserError(f"model.segmentation.inference.scales is {self.scales}; give numbers above 0.")
        if self.multiple < 1:
            raise UserError(f"model.segmentation.inference.multiple is {self.multiple}; it must be 1 or more.")


class Inference:
    """Segment images of any size.

    Args:
        options: How.
        crop: Height and width of the training crop.
        scale: Longer and shorter side of the test scale; None if images keep their size.
    """

    def __init__(self, options: InferenceOptions, crop: Size, scale: Sequence[int] | None = None) -> None:
        self.options = options
        self.scale = None if scale is None else (max(scale), min(scale))
        height, width = options.window or crop
        self.window = (height, width)
        down, across = options.stride or (max(1, height * 2 // 3), max(1, width * 2 // 3))
        self.stride = (down, across)

    @property
    def takes_originals(self) -> bool:
        """Whether images are resized here, from their own size, rather than by the data."""
        return self.options.scales is not None

    def probabilities(self, segment: Segment, image: Tensor, size: Size) -> Tensor:
        """Return the probabilities of each class at each pixel.

        Args:
            segment: Returns the logits of images.
            image: Normalized, (C, h, w), at the test scale; of its own size if :attr:`takes_originals`.
            size: Height H and width W of the result, those of the original image.

        Returns:
            Shape (K, H, W), single precision.
        """
        found = [
            self._segment(segment, view, size, mirrored=mirrored)
            for view in self._views(image, size)
            for mirrored in (False, True)[: 1 + self.options.flip]
        ]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def _views(self, image: Tensor, original: Size) -> list[Tensor]:
        if self.options.scales is None:
            return [_resized_image(image, self._aligned(_size(image)))]
        return [_resized_image(image, self._aligned(self._scaled(original, factor))) for factor in self.options.scales]

    def _scaled(self, original: Size, factor: float) -> Size:
        """Return the size that fits a multiple of the test scale, as MMSegmentation's ``MultiScaleFlipAug``."""
        height, width = original
        longer, shorter = self.scale or (max(original), min(original))
        longer, shorter = int(longer * factor), int(shorter * factor)
        ratio = min(longer / max(original), shorter / min(original))
        return max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5))

    def _aligned(self, size: Size) -> Size:
        height, width = (math.ceil(side / self.options.multiple) * self.options.multiple for side in size)
        return height, width

    def _segment(self, segment: Segment, image: Tensor, size: Size, *, mirrored: bool) -> Tensor:
        batch = (image.flip(-1) if mirrored else image)[None]
        whole = self.options.mode == "whole"
        logits = resized(segment(batch), _size(batch)) if whole else self._slide(segment, batch)
        probabilities = resized(logits, size)[0].softmax(dim=0)
        return probabilities.flip(-1) if mirrored else probabilities

    def _slide(self, segment: Segment, batch: Tensor) -> Tensor:
        """Average the logits of overlapping windows; the last ones in each direction end at the image's border."""
        (height, width), (rows, columns) = batch.shape[-2:], self.window
        total: Tensor | None = None
        visits = batch.new_zeros(1, 1, height, width, dtype=torch.float32)
        for top in _starts(height, rows, self.stride[0]):
            for left in _starts(width, columns, self.stride[1]):
                window = batch[..., top : top + rows, left : left + columns]
                logits = resized(segment(window), _size(window))
                if total is None:
                    total = logits.new_zeros(1, logits.shape[1], height, width)
                total[..., top : top + rows, left : left + columns] += logits
                visits[..., top : top + rows, left : left + columns] += 1
        assert total is not None  # an image has at least one window
        return total / visits


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride + window, length) - window, 0) for index in range(count)]


def _size(images: Tensor) -> Size:
    height, width = images.shape[-2:]
    return height, width


def _resized_image(image: Tensor, size: Size) -> Tensor:
    """Resize an image as the data does: bilinearly, if it is much larger after a mean of 2×2, 4×4 or 8×8 pixels."""
    height, width = _size(image)
    factor = next((f for f in _REDUCTIONS if height >= f * size[0] and width >= f * size[1]), 1)
    if factor > 1:
        image = F.avg_pool2d(image[None], factor, ceil_mode=True, count_include_pad=False)[0]
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
