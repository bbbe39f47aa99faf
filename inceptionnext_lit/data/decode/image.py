"""The one way in which an image file becomes pixels, whatever its mode."""

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
    """Reads an image file as an upright picture with the channels that a model takes.

    16-bit grey is scaled to 8 bits (65535 becomes 255); of an animation or a multi-page file, the first picture counts.
    In RGB and grey, transparent pixels show white; with 4 channels the fourth is alpha.
    What Pillow has no mode for comes as a tensor: another number of channels, a TIFF's 4 that are not RGBA, and floats.

    Args:
        path: The image file; its content, not its name, tells the format. Arrays of NumPy are told by ``.npy``.
        channels: 1, 3 or 4 for grey, RGB and RGBA. Any other number takes a TIFF or an array of shape (H, W, C) or
            (C, H, W) with so many, of unsigned integers, whose largest value becomes 1, or of floats, as they are.
        max_pixels: The most pixels that it may have; a file with more is refused from its header.
        nodata: The value of pixels without data; ``None`` takes the one that a TIFF's own tag (GDAL's) says, if any. In
            arrays and TIFFs of other channels, each channel's values count; in pictures, pixels all of whose colours
            have it.
        fill: What such pixels show, per channel, for values in [0, 1]; 0 if not given.
        apply_exif: Whether EXIF's orientation is applied.

    Returns:
        The picture in mode L, RGB or RGBA; otherwise a float32 tensor (C, H, W).

    Raises:
        UserError: If the file cannot be read to its end, has other channels, or its pixel values have no defined
            brightness, or it has too many of them.
    """
    with reading(path):
        if channels != 3 and (stored := read_array(str(path), channels, max_pixels)) is not None:
            from torch import from_numpy  # which RGB pictures do without

            return from_numpy(as_floats(stored, nodata, fill))
        with open_image(path, max_pixels) as image:
            return upright(image, channels, nodata, fill, apply_exif=apply_exif)


def upright(
    image: Image.Image,
    channels: int = 3,
    nodata: float | None = None,
    fill: Sequence[float] = (),
    *,
    apply_exif: bool = True,
) -> Image.Image:
    """Turns any picture of Pillow's into what :func:`load_image` makes of its file.

    Args:
        image: The picture.
        channels: 1, 3 or 4, as in :func:`load_image`.
        nodata: The value of pixels without data, likewise.
        fill: What these show, likewise.
        apply_exif: Whether EXIF's orientation is applied.

    Raises:
        ValueError: If its pixel values have no defined brightness, or the channels are others.
    """
    image.load()
    picture = ImageOps.exif_transpose(image) if apply_exif else image
    if channels not in (1, 3, 4):
        raise ValueError(f"it is a picture of mode {picture.mode}, not one of {channels} channels (data.in_chans)")
    missing = _find_missing(image, nodata, apply_exif=apply_exif)
    picture = {1: _to_grey, 3: _to_rgb, 4: _to_rgba}[channels](picture)
    if missing is not None:
        levels = tuple(round(255 * value) for value in fill or [0.0] * channels)
        picture.paste(levels if channels > 1 else levels[0], mask=missing)
    return picture


def stored_nodata(image: Image.Image) -> float | None:
    """The value of pixels without data, as a TIFF's own tag has it."""
    return parse_nodata(image.tag_v2.get(GDAL_NODATA)) if isinstance(image, TiffImageFile) else None


def marks_nodata(image: Image.Image) -> bool:
    """Whether a TIFF's own tag marks some of its pixels as without data."""
    return _find_missing(image, None) is not None


def _find_missing(image: Image.Image, nodata: float | None, *, apply_exif: bool = True) -> Image.Image | None:
    """A mask of the pixels without data, turned as the picture is; None if there are none."""
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
    """Turn whatever goes wrong with an image file into one sentence.

    Args:
        path: The file.

    Raises:
        UserError: If the block raises anything but MemoryError.
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
def without_warnings() -> Iterator[None]:
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
        return image if image.mode == "RGB" else image.convert("RGB")
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
