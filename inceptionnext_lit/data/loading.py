"""The one way in which an image file becomes pixels, whatever its mode."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageMath, ImageOps
from torch import Tensor

from inceptionnext_lit.data.files import IMAGE_SUFFIXES
from inceptionnext_lit.errors import UserError

TENSOR_SUFFIXES = (".npy", ".tif", ".tiff")
"""Endings of the files that may hold other channels than Pillow knows."""

_PLAIN_MODES = {"1", "L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_ALPHA_MODES = {"P", "LA", "PA", "RGBA", "RGBa"}
_INTEGER_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_MAX_16_BIT = 65535


def load_image(path: str | Path, channels: int = 3) -> Image.Image | Tensor:
    """Reads an image file as an upright picture with the channels that a model takes.

    EXIF's orientation is applied; 16-bit grey is scaled to 8 bits (65535 becomes 255); of an animation or a multi-page
    file, the first picture counts. In RGB and grey, transparent pixels show white; with 4 channels the fourth is alpha.
    What Pillow has no mode for comes as a tensor: another number of channels, and a TIFF's 4 that are not RGBA.

    Args:
        path: The image file; its content, not its name, tells the format. Arrays of NumPy are told by ``.npy``.
        channels: 1, 3 or 4 for grey, RGB and RGBA. Any other number takes a TIFF or an array of shape (H, W, C) or
            (C, H, W) with so many, of unsigned integers, whose largest value becomes 1, or of floats, as they are.

    Returns:
        The picture in mode L, RGB or RGBA; otherwise a float32 tensor (C, H, W).

    Raises:
        UserError: If the file cannot be read to its end, has other channels, or its pixel values have no defined
            brightness.
    """
    with reading(path):
        if channels != 3 and (pixels := _read_array(str(path), channels)) is not None:
            return pixels
        with Image.open(path) as image:
            return upright(image, channels)


def upright(image: Image.Image, channels: int = 3) -> Image.Image:
    """Turns any picture of Pillow's into what :func:`load_image` makes of its file.

    Args:
        image: The picture.
        channels: 1, 3 or 4, as in :func:`load_image`.

    Raises:
        ValueError: If its pixel values have no defined brightness, or the channels are others.
    """
    image.load()
    picture = ImageOps.exif_transpose(image)
    if channels == 3:
        return _to_rgb(picture)
    if channels == 1:
        return _to_grey(picture)
    if channels == 4:
        return _to_rgba(picture)
    raise ValueError(f"it is a picture of mode {picture.mode}, not one of {channels} channels (data.in_chans)")


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever goes wrong with an image file into one sentence.

    Args:
        path: The file.

    Raises:
        UserError: If the block raises anything but MemoryError.
    """
    try:
        with _without_remarks():
            yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise almost any type on damaged data
        reason = failure_reason(error).rstrip(".")
        raise UserError(
            f"Cannot read the image {path}: {reason}. Replace the file with an intact image, or remove it."
        ) from error


def failure_reason(error: BaseException) -> str:
    """Why an image could not be read, in words.

    Args:
        error: What :func:`load_image` raised, or what a decoder did.
    """
    if isinstance(error, UserError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error) or repr(error)


_open_files = 0
_counting = threading.Lock()
_filters = warnings.catch_warnings()


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silences remarks on odd metadata, which each worker and epoch would repeat.

    The filters of warnings are the whole process's: of several threads the first one sets them, the last one resets.
    """
    global _open_files, _filters
    with _counting:
        _open_files += 1
        if _open_files == 1:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _counting:
            _open_files -= 1
            if _open_files == 0:
                _filters.__exit__(None, None, None)


def image_suffixes(channels: int) -> frozenset[str]:
    """Endings of the files that are images where they have so many channels."""
    return IMAGE_SUFFIXES if channels == 3 else IMAGE_SUFFIXES | {".npy"}


def _read_array(path: str, channels: int) -> Tensor | None:
    """Channels as they are stored, of an array or a TIFF; None for what Pillow reads."""
    if not path.lower().endswith(TENSOR_SUFFIXES):
        return None
    if path.lower().endswith(".npy"):
        array = np.load(path, allow_pickle=False)
    else:
        import tifffile  # takes a while to import, and few need it

        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            has_alpha = page.extrasamples in ((1,), (2,))  # TIFF's codes for alpha; 0 is any other fourth channel
            if (
                page.photometric.name == "PALETTE"
                or (channels == 4 and has_alpha)
                or (channels == 1 and page.ndim == 2)
            ):
                return None
            array = file.asarray()
    return as_channels(array, channels)


def as_channels(array: np.ndarray[Any, Any], channels: int) -> Tensor:
    """An array of (H, W, C), (C, H, W) or (H, W) as a float32 tensor (C, H, W), integers scaled to [0, 1]."""
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and shape[-1] == channels:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] != channels:
        raise ValueError(f"it is an array of shape {shape}, not one of {channels} channels (data.in_chans)")
    if array.dtype.kind == "u":
        scaled = array.astype(np.float32) / np.iinfo(array.dtype).max
    elif array.dtype.kind == "f" and np.isfinite(array).all():
        scaled = array.astype(np.float32)
    else:
        raise ValueError(f"its values of type {array.dtype} are neither unsigned integers nor finite floats")
    return torch.from_numpy(np.ascontiguousarray(scaled))


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode in _INTEGER_MODES:
        image = _scale_16_bit(image)
    return image if image.mode == "L" and "transparency" not in image.info else _to_rgb(image).convert("L")


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode in _INTEGER_MODES:
        image = _scale_16_bit(image)
    if image.mode in _ALPHA_MODES or image.mode in _PLAIN_MODES:
        return image.convert("RGBA")
    raise ValueError(f"its pixel mode {image.mode} has no defined brightness; save it as 8-bit or 16-bit")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _INTEGER_MODES:
        image = _scale_16_bit(image)
    if image.mode in _ALPHA_MODES or (image.mode in _PLAIN_MODES and "transparency" in image.info):
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    if image.mode in _PLAIN_MODES:
        return image.convert("RGB")
    raise ValueError(f"its pixel mode {image.mode} has no defined brightness; save it as 8-bit or 16-bit")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, to the nearest value; a PNG's transparent grey becomes alpha."""
    values = image.convert("I")
    low, high = cast(tuple[int, int], values.getextrema())
    if low < 0 or high > _MAX_16_BIT:
        raise ValueError(
            f"its 32-bit pixel values reach from {low} to {high}, beyond 16 bits; save it as 8-bit or 16-bit"
        )
    grey: Image.Image = ImageMath.lambda_eval(lambda bands: (bands["v"] + 128) / 257, v=values).convert("L")
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = ImageMath.lambda_eval(lambda bands: (bands["v"] != transparent) * 255, v=values).convert("L")
    return Image.merge("LA", (grey, alpha))
