"""Images with their classes in color on top."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.masks.annotations import is_background
from inceptionnext_lit.preprocessing import IGNORED

IGNORED_COLOR = (255, 255, 255)
_OPACITY = 0.55


def overlaid(
    pixels: NDArray[np.uint8], indices: NDArray[np.uint8], palette: Sequence[Sequence[int]], names: Sequence[str]
) -> NDArray[np.uint8]:
    """Paint the classes of pixels over an image.

    A class that is black or named background keeps the image's color; ignored pixels are whitened.

    Args:
        pixels: The image, (H, W, 3).
        indices: Class indices, (H, W); 255 is ignored.
        palette: Color of each class.
        names: Name of each class.

    Returns:
        Shape (H, W, 3).
    """
    colors = np.zeros((256, 3), dtype=np.float32)
    colors[: len(palette)] = palette
    colors[IGNORED] = IGNORED_COLOR
    opacity = np.full(256, _OPACITY, dtype=np.float32)
    is_clear = [is_background(name) or not any(color) for name, color in zip(names, palette, strict=True)]
    opacity[: len(is_clear)][is_clear] = 0
    result = np.empty_like(pixels)
    for row, (line, classes) in enumerate(zip(pixels, indices, strict=True)):  # by rows, for large images
        share = opacity[classes][:, None]
        result[row] = (1 - share) * line + share * colors[classes]
    return result
