"""The evaluation's resize and crop of pictures with Pillow alone, pixel for pixel as with torchvision and timm."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.preprocessing import Preprocessing, height_and_width

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def resize_and_crop(picture: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize a picture and keep its center; see :class:`Preprocessing` for the modes.

    Args:
        picture: Of mode L, RGB or RGBA.
        preprocessing: The transform as plain data.

    Returns:
        Shape (S, S, C).
    """
    height, width = height_and_width(preprocessing)
    resized = picture.resize(resized_size(picture, preprocessing), _FILTERS[preprocessing["interpolation"]])
    left, top = (_start(side, kept) for side, kept in zip(resized.size, (width, height), strict=True))
    is_border = preprocessing.get("crop_mode") == "border"
    fill = [round(255 * value) if is_border else 0 for value in preprocessing["mean"]]
    pixels = np.asarray(resized).reshape(resized.height, resized.width, -1)
    canvas = np.empty((height, width, pixels.shape[2]), np.uint8)
    canvas[:] = fill
    kept = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    canvas[max(-top, 0) : max(-top, 0) + kept.shape[0], max(-left, 0) : max(-left, 0) + kept.shape[1]] = kept
    return canvas


def resized_size(picture: Image.Image, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the width and height to which a picture is resized before the crop.

    Args:
        picture: The picture.
        preprocessing: The transform as plain data.
    """
    height, width = (math.floor(side / preprocessing["crop_pct"]) for side in height_and_width(preprocessing))
    mode = preprocessing.get("crop_mode", "center")
    if mode == "squash":
        return width, height
    if mode == "center" and height == width:  # torchvision's rounding
        shorter, longer = sorted(picture.size)
        other = int(height * longer / shorter)
        return (height, other) if picture.width <= picture.height else (other, height)
    choose = max if mode == "border" else min
    ratio = choose(picture.height / height, picture.width / width)
    return round(picture.width / ratio), round(picture.height / ratio)


def _start(side: int, kept: int) -> int:
    """Return where the kept part begins; negative for padding."""
    return round((side - kept) / 2.0) if side >= kept else -((kept - side) // 2)
