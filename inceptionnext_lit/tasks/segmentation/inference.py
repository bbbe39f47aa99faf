"""Evaluation of whole images: at once or in windows, at several scales, mirrored, as MMSegmentation does it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.segmenter import resized
from inceptionnext_lit.preprocessing import Size

_REDUCTIONS = (8, 4, 2)
_MOST_VALUES = 2**26  # of the probabilities that are in memory for the best class, 256 MB

Segment = Callable[[Tensor], Tensor]
"""Takes images (N, C, H, W) and returns logits (N, K, h, w)."""


class Best(NamedTuple):
    """The prediction for an image's pixels.

    Attributes:
        classes: The most probable class, int64 (H, W).
        probabilities: Its probability, (H, W); NaN where logits are NaN or infinite.
        of_true: The probability of the true class, (H, W), any value where there is none; None without a mask.
    """

    classes: Tensor
    probabilities: Tensor
    of_true: Tensor | None = None


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
        check_choices(self, "model.segmentation.inference")
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
            _mirrored_back(resized(logits, size)[0].softmax(dim=0), mirrored=mirrored)
            for logits, mirrored in self._logits(segment, image, size)
        ]
        return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)

    def best(self, segment: Segment, image: Tensor, size: Size, mask: Tensor | None = None) -> Best:
        """Return the most probable class of each pixel, and probabilities, as :meth:`probabilities` gives them.

        For large images, only a part of the classes has its probabilities in memory at a time.

        Args:
            segment: Returns the logits of images.
            image: As for :meth:`probabilities`.
            size: Height H and width W of the result.
            mask: True classes (H, W), whose probabilities are wanted, if any; others, such as 255, have none.
        """
        found = self._logits(segment, image, size)
        together = max(1, _MOST_VALUES // (size[0] * size[1]))
        parts = list(zip(*(torch.split(logits, together, dim=1) for logits, _ in found), strict=True))
        totals = [_log_sum([part[view] for part in parts], size) for view in range(len(found))]
        classes = torch.zeros(size, dtype=torch.int64, device=image.device)
        best = torch.full(size, -1.0, device=image.device)
        of_true = None if mask is None else torch.zeros(size, device=image.device)
        lost = torch.zeros(size, dtype=torch.bool, device=image.device)
        for number, views in enumerate(parts):
            shares = [
                _mirrored_back((resized(part, size)[0] - total).exp(), mirrored=mirrored)
                for part, total, (_, mirrored) in zip(views, totals, found, strict=True)
            ]
            scores = shares[0] if len(shares) == 1 else torch.stack(shares).mean(dim=0)
            lost |= scores.isnan().any(dim=0)
            most, places = scores.max(dim=0)
            is_larger = most > best
            best = torch.where(is_larger, most, best)
            classes = torch.where(is_larger, places + number * together, classes)
            if mask is not None and of_true is not None:
                place = mask.long() - number * together
                is_here = (place >= 0) & (place < len(scores))
                here = scores.gather(0, place.where(is_here, 0)[None])[0]
                of_true = torch.where(is_here, here, of_true)
        return Best(classes, best.masked_fill(lost, torch.nan), of_true)

    def _logits(self, segment: Segment, image: Tensor, size: Size) -> list[tuple[Tensor, bool]]:
        """Return the logits (1, K, h, w) of each view of an image, and whether it is mirrored."""
        return [
            (self._segment(segment, view, mirrored=mirrored), mirrored)
            for view in self._views(image, size)
            for mirrored in (False, True)[: 1 + self.options.flip]
        ]

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

    def _segment(self, segment: Segment, image: Tensor, *, mirrored: bool) -> Tensor:
        batch = (image.flip(-1) if mirrored else image)[None]
        whole = self.options.mode == "whole"
        return resized(segment(batch), _size(batch)) if whole else self._slide(segment, batch)

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


def _log_sum(parts: Sequence[Tensor], size: Size) -> Tensor:
    """Return the logarithm of the sum of the exponentials of all classes' logits, resized, (H, W)."""
    sums = [resized(part, size)[0].logsumexp(dim=0) for part in parts]
    return sums[0] if len(sums) == 1 else torch.stack(sums).logsumexp(dim=0)


def _mirrored_back(maps: Tensor, *, mirrored: bool) -> Tensor:
    return maps.flip(-1) if mirrored else maps


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
