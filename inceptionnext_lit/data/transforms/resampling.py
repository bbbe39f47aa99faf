"""Bilinear resampling of the part of a picture that a crop needs, with OpenCV's weights."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.decode.jpeg import Jpeg
from inceptionnext_lit.data.transforms.random_crop import Picture

Array = NDArray[np.uint8] | NDArray[np.float32]
"""A picture (H, W, C): uint8 if RGB, otherwise float32 in [0, 1]."""
Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

_REDUCTIONS = (8, 4, 2)
_SMALL = 2**21  # pixels; up to this size, torch's uint8 kernel is faster for all of it than NumPy for a part


def fitted(height: int, width: int, longer: float, shorter: float) -> tuple[int, int]:
    """Return the height and width of an image that is resized to fit, with its ratio kept, as in mmcv.

    Args:
        height: The image's height.
        width: Its width.
        longer: Maximum of the longer side.
        shorter: Maximum of the shorter side.
    """
    factor = min(longer / max(height, width), shorter / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resample(picture: Picture | Jpeg, size: tuple[int, int], box: Box | None = None) -> Array | None:
    """Resize a picture and return a part of the result, of which only the needed pixels are computed.

    A picture at least twice as large as the result is first reduced by the mean of 2×2, 4×4 or 8×8 pixels, or decoded
    at that scale if it is a JPEG; the rest is bilinear between the two nearest pixels in each direction.

    Args:
        picture: The picture, or a JPEG file that is not decoded yet.
        size: Height and width of the whole result.
        box: The part of the result to return; None for all of it.

    Returns:
        The part (H, W, C); None if the JPEG's decoder warns, as it does for damaged files.
    """
    source = _reduced(picture, size)
    if source is None:
        return None
    top, left, height, width = box or (0, 0, *size)
    if source.shape[:2] == size:
        return source[top : top + height, left : left + width]
    if source.dtype == np.uint8 and size[0] * size[1] <= _SMALL:
        whole = torch.nn.functional.interpolate(as_tensor(source)[None], size, mode="bilinear")[0]
        return whole[:, top : top + height, left : left + width].permute(1, 2, 0).numpy()
    rows, next_rows, row_weights = _taps(source.shape[0], size[0], top, height)
    columns, next_columns, column_weights = _taps(source.shape[1], size[1], left, width)
    first, last = int(columns[0]), int(next_columns[-1]) + 1
    part = source[:, first:last]
    mixed = _mix(part[rows], part[next_rows], row_weights[:, None, None])
    mixed = _mix(mixed[:, columns - first], mixed[:, next_columns - first], column_weights[:, None])
    if source.dtype == np.uint8:
        return np.rint(mixed, out=mixed).astype(np.uint8)
    return mixed


def size_of(picture: Picture | Jpeg) -> tuple[int, int]:
    """Return the height and width of an upright picture."""
    if isinstance(picture, Tensor):
        return picture.shape[-2], picture.shape[-1]
    width, height = picture.size
    return height, width


def as_array(picture: Picture) -> Array:
    """Return the pixels of a picture (H, W, C): uint8 if it is RGB, otherwise float32 in [0, 1]."""
    if isinstance(picture, Tensor):
        return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    pixels = np.asarray(picture)
    if picture.mode == "RGB":
        return pixels
    return (pixels if pixels.ndim == 3 else pixels[..., None]).astype(np.float32) / np.float32(255)


def as_tensor(pixels: Array) -> Tensor:
    """Return pixels (H, W, C) as a tensor (C, H, W), in the same memory if it can be written."""
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)


def _reduced(picture: Picture | Jpeg, size: tuple[int, int]) -> Array | None:
    height, width = size_of(picture)
    if isinstance(picture, Jpeg):
        return picture.crop(0, 0, height, width, at_least=min(size))
    scale = next((s for s in _REDUCTIONS if height >= s * size[0] and width >= s * size[1]), 1)
    if scale == 1:
        return as_array(picture)
    if isinstance(picture, Image.Image):
        return as_array(picture.reduce(scale))
    pooled = torch.nn.functional.avg_pool2d(picture[None], scale, ceil_mode=True, count_include_pad=False)
    return as_array(pooled[0])


def _taps(
    source: int, target: int, start: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the two source pixels of each pixel of the result along an axis, and the weight of the second."""
    places = (np.arange(start, start + length) + 0.5) * (source / target) - 0.5
    places = np.clip(places, 0, source - 1)
    first = np.floor(places).astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (places - first).astype(np.float32)


def _mix(one: Array, other: Array, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    mixed = other.astype(np.float32)
    mixed -= one
    mixed *= weights
    mixed += one
    return mixed
