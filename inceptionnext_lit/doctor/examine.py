"""Examine one image file in a single read: whether it is intact, its format, and what it looks like."""

import hashlib
import os
import stat
import warnings
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, BytesIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from inceptionnext_lit.data.decode.arrays import TENSOR_SUFFIXES, as_floats, find_missing, read_array
from inceptionnext_lit.data.decode.dark import has_16_bits, is_dark
from inceptionnext_lit.data.decode.image import marks_nodata, upright
from inceptionnext_lit.data.decode.opening import HEIF, MAX_PIXELS, TooManyPixelsError, identify

THUMBNAIL_SIDE = 24
_IN_MEMORY = 256 * 2**20  # bytes; larger files are read in pieces to limit memory
_ORIENTATION = 0x0112
_SAME_COLOR = 8  # levels of 255
_SAME_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture looks like.

    Attributes:
        is_plain: Whether it is almost entirely one color.
        is_dark: Whether no value exceeds a sixteenth of the range, though it is not black.
        thumbnail: Gray levels of the upright picture resized to 24×24, row by row.
        color: Mean red, green and blue, 0 to 255.
    """

    is_plain: bool = False
    is_dark: bool = False
    thumbnail: bytes = b""
    color: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values of an array that Pillow has no mode for.

    Attributes:
        channels: Number of channels.
        extremes: Minimum and maximum of floats; None for integers.
    """

    channels: int
    extremes: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known of a file, in about a kilobyte.

    Attributes:
        path: The file.
        digest: Hash of its bytes.
        size: Width and height in pixels, as stored.
        mode: Pillow's mode, such as ``RGB``.
        format: Pillow's name of the format, such as ``JPEG``.
        is_16_bit: Whether a channel has more than 8 bits.
        orientation: EXIF orientation, 1 for upright.
        is_animated: Whether it has several frames or pages, of which only the first is used.
        is_transparent: Whether it has transparent pixels, which are blended with white.
        look: What it looks like.
        error: Why it cannot be read, as the end of a sentence; empty if it can.
        is_too_large: Whether it cannot be read because it has too many pixels.
        array: Values of an array that Pillow has no mode for; None for a picture.
        has_nodata: Whether a TIFF tag marks some of its pixels as without data.
    """

    path: str
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    is_16_bit: bool = False
    orientation: int = 1
    is_animated: bool = False
    is_transparent: bool = False
    look: Look = Look()
    error: str = ""
    is_too_large: bool = False
    array: Numbers | None = None
    has_nodata: bool = False


def examine(path: str, max_pixels: int = MAX_PIXELS) -> Examination:
    """Read a whole file as training does, without raising for its content.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels; a file with more in its header is not decoded.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block forever
            return Examination(path, error="it is not a regular file")
        if status.st_size == 0:
            return Examination(path, error="the file is empty (0 bytes)")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual metadata; what matters becomes a finding
            content = file if status.st_size > _IN_MEMORY else BytesIO(file.read())
            digest = hashlib.file_digest(content, "blake2b").digest()[:16]
            content.seek(0)
            return _decode(path, digest, content, max_pixels)
    except TooManyPixelsError as error:
        return Examination(path, error=str(error), is_too_large=True)
    except Exception as error:  # Pillow's decoders raise almost any type on damaged data
        return Examination(path, error=_reason(path, error))


def _decode(path: str, digest: bytes, file: BytesIO | BufferedReader, max_pixels: int) -> Examination:
    """Decode a picture, or an array if Pillow has no mode for it."""
    if path.lower().endswith(".npy"):
        return _decode_array(path, digest, max_pixels)
    may_be_array = path.lower().endswith(TENSOR_SUFFIXES)
    try:
        image = identify(file, max_pixels)
    except UnidentifiedImageError:
        if not may_be_array:
            raise
        return _decode_array(path, digest, max_pixels)
    if may_be_array and image.mode == "F":
        return _decode_array(path, digest, max_pixels)
    return _decode_picture(path, digest, image)


def _decode_picture(path: str, digest: bytes, image: ImageFile.ImageFile) -> Examination:
    with image:
        size, mode, kind = image.size, image.mode, image.format
        is_16_bit = has_16_bits(image)
        rgb = upright(image)
        orientation = image.getexif().get(_ORIENTATION, 1)
        is_transparent = _is_transparent(image)
        is_animated = _is_animated(image)
        has_nodata = marks_nodata(image)
    return Examination(
        path,
        digest,
        size,
        mode,
        kind or "unknown",
        is_16_bit,
        orientation if orientation in range(1, 9) else 1,
        is_animated=is_animated,
        is_transparent=is_transparent,
        look=_look(rgb),
        has_nodata=has_nodata,
    )


def _decode_array(path: str, digest: bytes, max_pixels: int) -> Examination:
    stored = read_array(path, None, max_pixels)
    assert stored is not None  # its suffix is that of an array
    missing = find_missing(stored.pixels, stored.nodata)
    floats = as_floats(stored)
    channels, height, width = floats.shape
    counted = floats if missing is None else floats[~missing]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    colors = floats[:3] if channels >= 3 else floats[:1].repeat(3, axis=0)
    levels = np.clip((colors - low) / ((high - low) or 1.0), 0, 1) * 255
    dtype = stored.pixels.dtype
    return Examination(
        path,
        digest,
        (width, height),
        f"{channels} × {dtype.name}",
        "NPY" if path.lower().endswith(".npy") else "TIFF",
        is_16_bit=False,
        look=_look(Image.fromarray(levels.transpose(1, 2, 0).astype(np.uint8))),
        array=Numbers(channels, (low, high) if dtype.kind == "f" else None),
        has_nodata=missing is not None,
    )


def _look(rgb: Image.Image) -> Look:
    histogram = np.array(rgb.histogram()).reshape(3, 256)
    red, green, blue = map(float, histogram @ np.arange(256) / histogram[0].sum())
    # of all filters, this one separates copies of other sizes from different pictures best
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnail = rgb.resize(side, Image.Resampling.HAMMING, reducing_gap=4).convert("L")
    return Look(_is_plain(histogram), is_dark(rgb), thumbnail.tobytes(), (red, green, blue))


def _is_plain(histogram: np.ndarray) -> bool:
    """Return whether 99% of the pixels are within 8 levels of the median in each channel.

    Args:
        histogram: Pixels per level, (3, 256).
    """
    pixels = histogram[0].sum()
    for levels in histogram:
        median = int(np.argmax(levels.cumsum() * 2 >= pixels))
        if levels[max(median - _SAME_COLOR, 0) : median + _SAME_COLOR + 1].sum() < _SAME_SHARE * pixels:
            return False
    return True


def _is_transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    if image.mode.startswith("I"):  # 16-bit gray with a transparent level, which Pillow does not convert
        return True
    opaque = image.convert("RGBA").getchannel("A").histogram()[255]
    return opaque < image.width * image.height


def _is_animated(image: ImageFile.ImageFile) -> bool:
    """Return whether there are further frames; the extra images that phones add to JPEG or HEIC do not count."""
    if image.format in ("MPO", HEIF):
        return False
    with suppress(Exception):  # later frames may be damaged, but are not used
        return bool(getattr(image, "is_animated", False))
    return False


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, FileNotFoundError):
        return "the link points to a missing file" if os.path.islink(path) else "the file is gone"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or repr(error)
