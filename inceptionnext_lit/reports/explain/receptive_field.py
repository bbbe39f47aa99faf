"""The effective receptive field (Luo et al., arXiv 1701.04128), with the areas that RepLKNet's tables report.

It is the absolute gradient of the last map's central position with respect to the input. As in RepLKNet (arXiv
2203.06717, the authors' ``erf/analyze_erf.py``), log10(1 + mean) of it is divided by the maximum, and the area is
that of the smallest square with an odd side that holds a share of the sum, as far as it lies in the image. RepLKNet
centers it on the image, here it is centered on the field: the central position of a small map is up to half a stride
off the image's center.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inceptionnext_lit.errors import UserError

Floats = NDArray[np.float64]
SHARES = (0.2, 0.3, 0.5, 0.99)


@dataclass(frozen=True)
class Square:
    """The part in the image of the smallest square around a receptive field's center that holds a share of it.

    Attributes:
        share: The share that is asked for.
        top: Its first row.
        left: Its first column.
        height: Its number of rows.
        width: Its number of columns.
        area: Its area over the image's.
    """

    share: float
    top: int
    left: int
    height: int
    width: int
    area: float

    @property
    def side(self) -> int:
        """The longer side in pixels: that of the square unless the image's border cuts it."""
        return max(self.height, self.width)


def receptive_field(last_map: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Floats:
    """Return the effective receptive field of a map's central position.

    Args:
        last_map: Returns the map, (N, C, h, w), of images.
        batches: Normalized images, (N, C, H, W).

    Returns:
        Shape (H, W): the absolute gradient of the central position's positive values, summed over channels and averaged
        over images; then log10(1 + x), divided by its maximum.

    Raises:
        UserError: If there are no images, or the central position does not depend on them.
    """
    total: Tensor | float = 0.0
    count = 0
    for batch in batches:
        images = batch.detach().clone().requires_grad_()
        with torch.enable_grad():
            maps = last_map(images)
            center = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].relu().sum()
            [gradient] = torch.autograd.grad(center, images)
        total = total + gradient.double().abs().sum(dim=(0, 1)).cpu()
        count += len(images)
    if not isinstance(total, Tensor) or float(total.max()) == 0:
        raise UserError("The receptive field is empty: the last map's central position does not depend on the images.")
    scaled: Floats = np.log10(1 + total.numpy() / count)
    field: Floats = scaled / scaled.max()
    return field


def center_of(field: Floats) -> tuple[int, int]:
    """Return the row and column of a receptive field's center of mass.

    Args:
        field: The receptive field, (H, W).
    """
    row = field.sum(axis=1) @ np.arange(field.shape[0]) / field.sum()
    column = field.sum(axis=0) @ np.arange(field.shape[1]) / field.sum()
    return int(row + 0.5), int(column + 0.5)


def shares_by_side(field: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the sides of ever larger squares around a field's center, and the share of the field that each holds.

    Args:
        field: The receptive field, (H, W).

    Returns:
        The longer side in pixels of each square's part in the image, and the shares.
    """
    parts = [_within(field, reach) for reach in range(_farthest(field) + 1)]
    sides = np.array([max(field[part].shape) for part in parts])
    return sides, np.array([field[part].sum() for part in parts]) / field.sum()


def smallest_squares(field: Floats) -> list[Square]:
    """Return the smallest squares around a receptive field's center that hold 20, 30, 50 and 99% of it.

    Args:
        field: The receptive field, (H, W).
    """
    _, held = shares_by_side(field)
    found = []
    for share in SHARES:
        rows, columns = _within(field, int(np.argmax(held >= share - 1e-12)))
        height, width = field[rows, columns].shape
        found.append(Square(share, rows.start, columns.start, height, width, height * width / field.size))
    return found


def _farthest(field: Floats) -> int:
    """Return the largest distance of a row or column from the center."""
    row, column = center_of(field)
    height, width = field.shape
    return int(max(row, height - 1 - row, column, width - 1 - column))


def _within(field: Floats, reach: int) -> tuple[slice, slice]:
    """Return the rows and columns of the image at most a distance from a field's center."""
    row, column = center_of(field)
    return slice(max(row - reach, 0), row + 1 + reach), slice(max(column - reach, 0), column + 1 + reach)
