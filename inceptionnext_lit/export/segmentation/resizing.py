"""Operations on images of any size in an exported graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inceptionnext_lit.export.resampling import to_bytes

_REDUCTIONS = (2, 4, 8)


class FitToScale(nn.Module):
    """Resize images to fit a box with their ratio kept, as the test scale of segmentation models does.

    An image at least 2, 4 or 8 times as large as the result is reduced by means of that many pixels, which are rounded
    to bytes; the rest is bilinear between the two nearest pixels, with values rounded to bytes after each axis. Means
    are matrix products, whose weights are computed in the graph.

    Args:
        scale: Longer and shorter side of the box in pixels.

    Shape:
        Whole numbers from 0 to 255, float32 ``(N, 3, H, W)``, to ``(N, 3, h, w)``.
    """

    def __init__(self, scale: Sequence[int]) -> None:
        super().__init__()
        self.longer, self.shorter = max(scale), min(scale)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the resized images."""
        height, width = pixels.shape[-2], pixels.shape[-1]
        new_height, new_width = self._fitted(height, height, width), self._fitted(width, height, width)
        reduction = self._reduction(pixels, new_height, new_width)
        rows, row_shares = _taps(_side(pixels, 2), height, new_height, reduction)
        columns, column_shares = _taps(_side(pixels, 3), width, new_width, reduction)
        parts = [pixels @ column.T for column in columns]  # (N, 3, H, W) -> (N, 3, H, w)
        lines = [_mixed(to_bytes(row @ parts[0]), to_bytes(row @ parts[1]), *column_shares) for row in rows]
        return _mixed(*lines, *(share.unsqueeze(1) for share in row_shares))

    def _fitted(self, side: int, height: int, width: int) -> Any:
        """Return a side of the result: ``floor(side * min(longer / larger, shorter / smaller) + 0.5)``, at least 1."""
        larger, smaller = torch.sym_max(height, width), torch.sym_min(height, width)
        by_longer = (2 * side * self.longer + larger) // (2 * larger)
        by_shorter = (2 * side * self.shorter + smaller) // (2 * smaller)
        return torch.sym_max(1, torch.sym_min(by_longer, by_shorter))

    def _reduction(self, pixels: Tensor, height: int, width: int) -> Tensor:
        """Return the number of pixels along each axis of which means are taken, shape (1,)."""
        rows, columns = _side(pixels, 2), _side(pixels, 3)
        chosen = torch.ones_like(rows)
        for number in _REDUCTIONS:
            is_large = (rows >= number * height) & (columns >= number * width)
            chosen = torch.where(is_large, torch.full_like(rows, number), chosen)
        return chosen


def _side(pixels: Tensor, axis: int) -> Tensor:
    """Return a side as a whole number of shape (1,)."""
    return torch.arange(pixels.shape[axis], device=pixels.device)[-1:] + 1


def _mixed(one: Tensor, other: Tensor, share: Tensor, other_share: Tensor) -> Tensor:
    return to_bytes(one * share + other * other_share)


def _taps(
    side: Tensor, length: int, new_length: int, reduction: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the weights of the pixels for the two means at each position of an axis, and the means' own weights.

    Args:
        side: The image's side, shape (1,).
        length: The image's side as a number.
        new_length: The side of the result.
        reduction: Number of pixels of a mean, shape (1,).

    Returns:
        Twice (new_length, length), and twice (new_length,), float32.
    """
    reduced = (side + reduction - 1) // reduction
    place = torch.arange(new_length, device=side.device).to(torch.float32) + 0.5
    source = place * (reduced.to(torch.float32) / new_length) - 0.5
    source = torch.minimum(source.clamp(min=0), (reduced - 1).to(torch.float32))
    first = source.floor()
    share = source - first
    first = first.to(side.dtype)
    second = torch.minimum(first + 1, reduced - 1)
    group = torch.arange(length, device=side.device) // reduction
    sizes = torch.minimum(reduction, side - group * reduction).to(torch.float32)  # the last mean may have fewer
    means = [(group == one.unsqueeze(1)).to(torch.float32) / sizes for one in (first, second)]
    return (means[0], means[1]), (1 - share, share)


class AnyAdaptivePool(nn.Module):
    """Average pooling to a grid, like ``AdaptiveAvgPool2d``, for maps whose size the graph does not know.

    Args:
        bins: Side of the grid.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, bins, bins)``.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Return the means."""
        return self._weights(x, 2) @ (x @ self._weights(x, 3).T)

    def _weights(self, x: Tensor, axis: int) -> Tensor:
        side = _side(x, axis)
        place = torch.arange(x.shape[axis], device=x.device).unsqueeze(0)
        bins = torch.arange(self.bins, device=x.device).unsqueeze(1)
        start, end = bins * side // self.bins, ((bins + 1) * side + self.bins - 1) // self.bins
        inside = ((place >= start) & (place < end)).to(x.dtype)
        return inside / (end - start).to(x.dtype)


def without_adaptive_pools(model: nn.Module) -> nn.Module:
    """Replace the adaptive average pools of a model, in place; exporters need to know the size of their input.

    Args:
        model: The model.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(module, name, AnyAdaptivePool(child.output_size))
    return model
