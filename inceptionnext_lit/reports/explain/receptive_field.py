"""The effective receptive field (Luo et al., arXiv 1701.04128), with the areas that RepLKNet's tables report.

It is the absolute gradient of the last map's central position with respect to the input. As in RepLKNet (arXiv
2203.06717, the authors' ``erf/analyze_erf.py``), log10(1 + mean) of it is divided by the maximum, and the area is
that of the smallest centered square with an odd side that holds a share of the sum.
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
    """The smallest centered square that holds a share of the receptive field.

    Attributes:
        share: The share that is asked for.
        side: Its side in pixels.
        area: Its area over the image's.
    """

    share: float
    side: int
    area: float


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


def shares_by_side(field: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the odd sides of centered squares, and the share of the field that each holds.

    Args:
        field: The receptive field, (H, W).
    """
    row, column = field.shape[0] // 2, field.shape[1] // 2
    reach = max(row, column)
    held = [field[max(row - i, 0) : row + 1 + i, max(column - i, 0) : column + 1 + i].sum() for i in range(reach + 1)]
    return 2 * np.arange(reach + 1) + 1, np.array(held) / field.sum()


def smallest_squares(field: Floats) -> list[Square]:
    """Return the smallest centered squares that hold 20, 30, 50 and 99% of a receptive field.

    Args:
        field: The receptive field, (H, W).
    """
    sides, held = shares_by_side(field)
    found = []
    for share in SHARES:
        side = int(sides[int(np.argmax(held >= share - 1e-12))])
        area = min(side, field.shape[0]) * min(side, field.shape[1]) / field.size
        found.append(Square(share, side, area))
    return found
