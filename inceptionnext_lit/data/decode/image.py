"""Decode image files of any mode."""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np
from PIL import ExifTags, Image, ImageMath, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from inceptionnext_lit.data.decode.arrays import GDAL_NODATA, as_floats, find_missing, parse_nodata, read_array
from inceptionnext_lit.data.decode.dark import has_16_bits, is_dark, warn_of_dark
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, TooManyPixelsError, open_image
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES
from inceptionnext_lit.errors import UserError

if TYPE_CHECKING:  # the doctor reads images without torch
    from torch import Tensor

ORIENTATION = ExifTags.Base.Orientation

_PLAIN_MODES = {"1", "L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_ALPHA_MODES = {"P", "LA", "PA", "RGBA", "RGBa"}
_INTEGER_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_MAX_16_BIT = 65535


@overload
def load_image(
    path: str | Path,
    channels: Literal[3] = 3,
    max_pixels: int = MAX_PIXELS,
    nodata: float | None = None,
    fill: Sequence[float] = (),
    *,
    apply_exif: bool = True,
) -> Image.Image: ...


@overload
def load_image(
    path: str | Path,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    nodata: float | None = None,
    fill: Sequence[float] = (),
    *,
    apply_exif: bool = True,
) -> "Image.Image | Tensor": ...


def load_image(
    path: str | Path,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    nodata: float | None = None,
    fill: Sequence[float] = (),
    *,
    apply_exif: bool = True,
) -> "Image.Image | Tensor":
    """Read an image file as an upright picture with a given number of channels.

    16-bit grayscale is scaled to 8 bits (65535 becomes 255); the first image that becomes almost black is reported. Of
    an animation or a multi-page file, the first picture is used. In RGB and grayscale, transparent pixels become white;
    with 4 channels the fourth is alpha. Images that Pillow does not support are returned as a tensor: other numbers of
    channels, TIFFs with 4 channels other than RGBA, and floats.

    Args:
        path: The image file; the format is detected from its content, except for NumPy arrays (``.npy``).
        channels: 1, 3 or 4 for grayscale, RGB and RGBA. Any other number requires a TIFF or an array of shape (H, W, C)
            or (C, H, W), of unsigned integers, scaled so that the largest possible value becomes 1, or of floats,
            which are not scaled.
        max_pixels: Maximum number of pixels; larger images are refused from their header.
        nodata: The value of pixels without data; ``None`` uses the GDAL tag of a TIFF, if any. In arrays and TIFFs
            with other channels, it applies per channel; in pictures, to pixels that have it in all colors.
        fill: The color of pixels without data, per channel, in [0, 1]; 0 if not given.
        apply_exif: Whether to apply the EXIF orientation.

    Returns:
        The picture in mode L, RGB or RGBA; otherwise a float32 tensor (C, H, W).

    Raises:
        UserError: If the file cannot be read completely, has other channels or too many pixels, or its pixel values do
            not have a defined brightness.
    """
    with reading(path):
        if channels != 3 and (stored := read_array(str(path), channels, max_pixels)) is not None:
            from torch import from_numpy  # not needed for RGB pictures

            return from_numpy(as_floats(stored, nodata, fill))
        with open_image(path, max_pixels) as image:
            has_many_levels = has_16_bits(image)
            picture = upright(image, channels, nodata, fill, apply_exif=apply_exif)
    if has_many_levels and is_dark(picture):
        warn_of_dark(path)
    return picture


def upright(
    image: Image.Image,
    channels: int = 3,
    nodata: float | None = None,
    fill: Sequence[float] = (),
    *,
    apply_exif: bool = True,
) -> Image.Image:
    """Convert a Pillow image as :func:`load_image` does.

    Args:
        image: The picture.
        channels: 1, 3 or 4, as in :func:`load_image`.
        nodata: The value of pixels without data, as in :func:`load_image`.
        fill: The color of pixels without data, as in :func:`load_image`.
        apply_exif: Whether to apply the EXIF orientation.

    Raises:
        ValueError: If its pixel values do not have a defined brightness, or it has other channels.
    """
    image.load()
    picture = ImageOps.exif_transpose(image) if apply_exif else image
    if channels not in (1, 3, 4):
        raise ValueError(f"it is a picture of mode {picture.mode}, not one of {channels} channels (data.in_chans)")
    missing = _find_missing(image, nodata, apply_exif=apply_exif)
    picture = {1: _to_gray, 3: _to_rgb, 4: _to_rgba}[channels](picture)
    if missing is not None:
        levels = tuple(round(255 * value) for value in fill or [0.0] * channels)
        picture.paste(levels if channels > 1 else levels[0], mask=missing)
    return picture


def stored_nodata(image: Image.Image) -> float | None:
    """Return the value of pixels without data from a TIFF's own tag."""
    return parse_nodata(image.tag_v2.get(GDAL_NODATA)) if isinstance(image, TiffImageFile) else None


def marks_nodata(image: Image.Image) -> bool:
    """Return whether a TIFF has pixels without data according to its own tag."""
    return _find_missing(image, None) is not None


def _find_missing(image: Image.Image, nodata: float | None, *, apply_exif: bool = True) -> Image.Image | None:
    """Return a mask of the pixels without data, oriented like the picture, if any."""
    nodata = stored_nodata(image) if nodata is None else nodata
    if nodata is None:
        return None
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    elif image.mode in _ALPHA_MODES:
        values = values[..., :-1]
    found = find_missing(values, nodata)
    if found is None:
        return None
    whole = np.logical_and.reduce(found, axis=2)
    if not whole.any():
        return None
    mask = Image.fromarray(whole.astype(np.uint8) * 255)
    if not apply_exif:
        return mask
    mask.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return ImageOps.exif_transpose(mask)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn any error of an image file into one sentence.

    Args:
        path: The file.

    Raises:
        UserError: If the block raises any exception except MemoryError.
    """
    try:
        with without_warnings():
            yield
    except MemoryError:
        raise
    except TooManyPixelsError as error:
        raise UserError(f"Cannot read the image {path}: {error}. Shrink the image, or raise the limit.") from error
    except Exception as error:  # decoders raise almost any type on damaged data
        reason = failure_reason(error).rstrip(".")
        raise UserError(
            f"Cannot read the image {path}: {reason}. Replace the file with an intact image, or remove it."
        ) from error


def failure_reason(error: BaseException) -> str:
    """Describe why an image could not be read.

    Args:
        error: The exception of :func:`load_image` or of a decoder.
    """
    if isinstance(error, UserError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    system = error.strerror if isinstance(error, OSError) else None  # without the number of the error and the path
    return system or str(error) or repr(error)


_open_files = 0
_counting = threading.Lock()
_filters = warnings.catch_warnings()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress warnings about unusual metadata, which each worker and epoch would repeat.

    Warning filters are global to the process: the first of several threads sets them, the last one resets them.
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
    """Return the suffixes of image files for a number of channels."""
    return IMAGE_SUFFIXES if channels == 3 else IMAGE_SUFFIXES | {".npy"}


def _to_gray(image: Image.Image) -> Image.Image:
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
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in _PLAIN_MODES:
        return image if image.mode == "RGB" else image.convert("RGB")
    raise ValueError(f"its pixel mode {image.mode} has no defined brightness; save it as 8-bit or 16-bit")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grayscale to 8 bits, rounding to nearest; a PNG's transparent level becomes alpha."""
    values = image.convert("I")
    low, high = cast(tuple[int, int], values.getextrema())
    if low < 0 or high > _MAX_16_BIT:
        raise ValueError(
            f"its 32-bit pixel values reach from {low} to {high}, beyond 16 bits; save it as 8-bit or 16-bit"
        )
    gray: Image.Image = ImageMath.lambda_eval(lambda bands: (bands["v"] + 128) / 257, v=values).convert("L")
    transparent = image.info.get("transparency")
    if transparent is None:
        return gray
    alpha = ImageMath.lambda_eval(lambda bands: (bands["v"] != transparent) * 255, v=values).convert("L")
    return Image.merge("LA", (gray, alpha))
