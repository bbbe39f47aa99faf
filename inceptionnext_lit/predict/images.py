"""Images as callers have them: paths, PIL images, arrays and tensors. This module does not import torch."""

import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from inceptionnext_lit.data.decode.arrays import StoredArray, as_floats, channels_first
from inceptionnext_lit.data.decode.image import upright
from inceptionnext_lit.data.decode.opening import FORMATS, HEIF, check_size
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

    ImageLike = str | Path | Image.Image | np.ndarray | Tensor | StoredArray
else:
    ImageLike = Any
_KINDS = "a path, a PIL image, a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4), or a uint8 tensor (3, H, W)"
# Pillow reads a file and its metadata on first use, which two threads must not do at once
_pillow = threading.Lock()


def batches(images: "ImageLike | Iterable[ImageLike]", size: int) -> Iterator[list["ImageLike"]]:
    """Return an iterator over batches of one or several images.

    Args:
        images: One or several.
        size: Images per batch.

    Raises:
        TypeError: If it is neither.
        ValueError: If the size is below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size is {size}; it must be 1 image or more.")
    if isinstance(images, (str, Path, Image.Image, np.ndarray, StoredArray)) or _is_tensor(images):
        return _divided(iter([images]), size)
    if not isinstance(images, Iterable):
        raise TypeError(f"An image is {_KINDS}, not {_described(images)}.")
    return _divided(iter(images), size)


def _divided(images: Iterator[Any], size: int) -> Iterator[list["ImageLike"]]:
    while batch := list(islice(images, size)):
        yield batch


def image_name(image: "ImageLike", place: int) -> str:
    """Return what messages call an image.

    Args:
        image: The image.
        place: Its position, from 0.
    """
    return str(image) if isinstance(image, (str, Path)) else f"image {place + 1}"


def as_picture(
    image: "ImageLike", preprocessing: Preprocessing, max_pixels: int
) -> "Image.Image | NDArray[np.float32]":
    """Convert an image that is not a path to what :func:`load_image` would return for its file.

    Args:
        image: The image.
        preprocessing: Preprocessing of the model's input.
        max_pixels: Maximum number of pixels.

    Returns:
        A picture, or an array (C, H, W) for channels that Pillow does not support.

    Raises:
        TypeError: If it is not an image.
        ValueError: If an array has another shape.
        UserError: If its pixel values do not have a defined brightness.
    """
    mean, nodata = preprocessing["mean"], preprocessing.get("nodata")
    channels = len(mean)
    if isinstance(image, StoredArray):
        return _floats(image, preprocessing)
    if _is_tensor(image):
        _check_pixels("tensor", image.dtype, str(image.dtype) == "torch.uint8")
        if image.ndim != 3 or len(image) not in (3, channels) or image.numel() == 0:
            raise ValueError(f"A tensor of shape {tuple(image.shape)} was given; one image has the shape (3, H, W).")
        image = image.permute(1, 2, 0).cpu().numpy()  # (C, H, W) -> (H, W, C)
    if isinstance(image, np.ndarray):
        _check_pixels("array", image.dtype, image.dtype == np.uint8)
        if image.size and image.shape[2:] == (channels,) and channels not in (3, 4):
            return as_floats(StoredArray(channels_first(image, channels)), nodata, mean)
        if image.size == 0 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
            other = "" if channels in (1, 3, 4) else f" (H, W, {channels}),"
            raise ValueError(
                f"An array of shape {image.shape} was given; one image has the shape{other} (H, W), (H, W, 3) or "
                "(H, W, 4)."
            )
        image = Image.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, Image.Image):
        raise TypeError(f"An image is {_KINDS}, not {_described(image)}.")
    try:
        if isinstance(image, ImageFile.ImageFile):  # it may not be decoded yet
            _check_format(image)
        check_size(image.size, max_pixels)
        with _pillow:
            return upright(image, channels, nodata, mean)
    except (OSError, ValueError) as error:
        raise UserError(f"The PIL image {_described(image)} cannot be used: {error}.") from error


def _floats(image: StoredArray, preprocessing: Preprocessing) -> "NDArray[np.float32]":
    try:
        return as_floats(image, preprocessing.get("nodata"), preprocessing["mean"])
    except ValueError as error:
        raise UserError(f"The array cannot be used: {error}.") from error


def _is_tensor(image: object) -> "TypeGuard[Tensor]":
    torch = sys.modules.get("torch")  # without it, nothing is a tensor
    return torch is not None and isinstance(image, torch.Tensor)


def _check_format(image: ImageFile.ImageFile) -> None:
    """Refuse formats that are not read from files either: Pillow passes EPS to Ghostscript, which runs it."""
    if image.format not in (*FORMATS, "MPO", HEIF):
        raise ValueError(f"its format is {image.format}; give a copy of its pixels, image.convert('RGB')")


def _check_pixels(kind: str, dtype: object, is_uint8: bool) -> None:
    if not is_uint8:
        raise TypeError(f"An image as {kind} of {dtype} was given; its pixels must be uint8, 0 to 255.")


def _described(value: object) -> str:
    if isinstance(value, Image.Image):
        return f"of mode {value.mode} and size {value.size}"
    return f"a {type(value).__name__}"
