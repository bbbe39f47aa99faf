"""Evaluation of whole images: at once or in windows, at several scales, mirrored, as MMSegmentation does it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.segmenter import resized
from inceptionnext_lit.preprocessing import Size

Segment = Callable[[Tensor], Tensor]
"""Takes images (N, C, H, W) and returns logits (N, K, h, w)."""


@dataclass(frozen=True)
class InferenceOptions:
    """How an image is segmented in evaluation and prediction.

    Args:
        mode: ``whole`` segments an image at once; ``slide`` in overlapping windows, whose logits are averaged.
        window: Height and width of a window; None for the training crop.
        stride: Vertical and horizontal distance of windows; None for two thirds of the window.
        scales: Factors by which the image at the test scale is resized; the probabilities are averaged.
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
    """

    def __init__(self, options: InferenceOptions, crop: Size) -> None:
        self.options = options
        height, width = options.window or crop
        self.window = (height, width)
        down, across = options.stride or (max(1, height * 2 // 3), max(1, width * 2 // 3))
        self.stride = (down, across)

    def probabilities(self, segment: Segment, image: Tensor, size: Size) -> Tensor:
        """Return the probabilities of each class at each pixel.

        Args:
            segment: Returns the logits of images.
            image: Normalized, (C, h, w).
            size: Height H and width W of the result.

        Returns:
            Shape (K, H, W), single precision.
        """
        found = [
            self._segment(segment, view, size, mirrored=mirrored)
            for view in self._views(image)
            for mirrored in (False, True)[: 1 + self.options.flip]
        ]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def _views(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        scales = self.options.scales or [1.0]
        return [_resized_image(image, self._target(height, width, scale)) for scale in scales]

    def _target(self, height: int, width: int, scale: float) -> Size:
        multiple = self.options.multiple
        sides = [max(1, math.floor(side * scale + 0.5)) for side in (height, width)]
        height, width = (math.ceil(side / multiple) * multiple for side in sides)
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
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
