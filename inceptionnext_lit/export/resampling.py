"""Resize, crop and normalize pixels inside an exported graph, as the evaluation transform does with Pillow.

The antialiased resize is two matrix products, one per axis, whose weights are computed in the graph from the size of
the image. So every format can do it, for any size, without an operator whose antialiasing differs or is missing. As in
Pillow, values are rounded to bytes after each axis. Where Pillow resizes the columns before the rows, as it does for
some shapes, last digits differ, and bicubic overshoots beyond black and white.
"""

import math

import torch
from torch import Tensor, nn

from inceptionnext_lit.preprocessing import Interpolation, Preprocessing, height_and_width

_TIE = 1e-4  # above the error of a sum of bytes in single precision
_BICUBIC = -0.5  # Pillow's coefficient


class ResizeAndCrop(nn.Module):
    """Resize and crop images; see :class:`Preprocessing` for the modes.

    Args:
        preprocessing: The transform as plain data.

    Shape:
        Whole numbers from 0 to 255, float32 ``(N, 3, H, W)``, to ``(N, 3, S, S)``.
    """

    fill: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.size = height_and_width(preprocessing)
        self.resized = tuple(math.floor(side / preprocessing["crop_pct"]) for side in self.size)
        self.mode = preprocessing.get("crop_mode", "center")
        self.interpolation: Interpolation = preprocessing["interpolation"]
        fill = [float(round(255 * value)) for value in preprocessing["mean"]]
        self.register_buffer("fill", torch.tensor(fill).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images in the size of the model's input."""
        height, width = (torch.arange(pixels.shape[axis], device=pixels.device)[-1:] + 1 for axis in (2, 3))
        new_height, new_width = self._resized(height, width)
        down, is_row = self._weights(height, new_height, pixels.shape[2], self.size[0])
        across, is_column = self._weights(width, new_width, pixels.shape[3], self.size[1])
        rows = to_bytes(pixels @ across.T)  # (N, 3, H, W) -> (N, 3, H, S)
        images = to_bytes(down @ rows)  # (N, 3, H, S) -> (N, 3, S, S)
        if self.mode != "border":
            return images
        outside = 1 - is_row.unsqueeze(1) * is_column.unsqueeze(0)
        return images + outside * self.fill.to(images.dtype)

    def _resized(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Return the size to resize to, as whole numbers of shape (1,)."""
        to_height, to_width = self.resized
        if self.mode == "squash":
            return torch.full_like(height, to_height), torch.full_like(width, to_width)
        # the scale is that of the height where height / to_height is the smaller ratio, or the larger one for a border
        difference = height * to_width - width * to_height
        by_height = (difference >= 0 if self.mode == "border" else difference <= 0).to(height.dtype)
        if self.mode == "center" and to_height == to_width:
            other_height, other_width = height * to_width // width, width * to_height // height
        else:
            other_height, other_width = _rounded(height * to_width, width), _rounded(width * to_height, height)
        new_height = by_height * to_height + (1 - by_height) * other_height
        return new_height, by_height * other_width + (1 - by_height) * to_width

    def _weights(self, side: Tensor, new_side: Tensor, length: int, kept: int) -> tuple[Tensor, Tensor]:
        """Return the weights of pixels for the kept positions of one axis, and whether these are inside the image.

        Args:
            side: The image's side, shape (1,).
            new_side: The side to resize to, shape (1,).
            length: The image's side as a number.
            kept: Number of positions that remain after the crop.

        Returns:
            Shapes (kept, length) and (kept,), float32.
        """
        extra = new_side - kept
        half = extra // 2
        # Python's round, to the even number, for a crop; padding is rounded down
        start = torch.where(extra >= 0, half + (extra % 2) * (half % 2), -((-extra) // 2))
        place = torch.arange(kept, device=side.device) + start
        is_inside = ((place >= 0) & (place < new_side)).to(torch.float32)
        pixel = torch.arange(length, device=side.device)
        # whole numbers, so that the distance from a pixel to the center of a position is exact
        distance = (2 * pixel + 1).unsqueeze(0) * new_side - (2 * place + 1).unsqueeze(1) * side
        scale = (2 * torch.maximum(side, new_side)).to(torch.float32)
        weights = _filter(self.interpolation, (distance.to(torch.float32) / scale).abs())
        weights = weights * is_inside.unsqueeze(1)
        total = weights.sum(dim=1, keepdim=True)
        return weights / torch.where(total == 0, torch.ones_like(total), total), is_inside


class ToInput(nn.Module):
    """Convert images to a model's input: ``(pixels / 255 - mean) / std``.

    Args:
        preprocessing: Contains the mean and standard deviation of each channel.

    Shape:
        ``(N, C, S, S)`` to ``(N, C, S, S)``, float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        for name, values in (("mean", preprocessing["mean"]), ("std", preprocessing["std"])):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the input."""
        return (pixels / 255 - self.mean) / self.std


def to_bytes(values: Tensor) -> Tensor:
    """Round to bytes; sums just below one half are halves, which runtimes add up in different orders.

    Args:
        values: Any numbers.
    """
    return (values + (0.5 + _TIE)).floor().clamp(0, 255)


def _rounded(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return a quotient of whole numbers, rounded to the nearest one, and to the even one of two."""
    down = numerator // denominator
    twice = 2 * (numerator - down * denominator)
    up = (twice > denominator) | ((twice == denominator) & (down % 2 == 1))
    return down + up.to(down.dtype)


def _filter(interpolation: Interpolation, distance: Tensor) -> Tensor:
    """Return Pillow's filter at a distance, in pixels of the coarser image."""
    if interpolation == "bilinear":
        return (1 - distance).clamp(min=0)
    a, x = _BICUBIC, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
