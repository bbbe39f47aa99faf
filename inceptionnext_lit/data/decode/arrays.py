"""Images with channels that Pillow does not support: TIFF files and NumPy arrays."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from inceptionnext_lit.data.decode.opening import check_size, open_regular

TENSOR_SUFFIXES = (".npy", ".tif", ".tiff")
"""Suffixes of the files that may have channels that Pillow does not support."""

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # with BigTIFF
GDAL_NODATA = 42113
"""GDAL's TIFF tag for the value of pixels without data."""


@dataclass(frozen=True)
class StoredArray:
    """The content of a file.

    Attributes:
        pixels: The stored values, (C, H, W).
        nodata: The value of pixels without data, from the file's own tag.
    """

    pixels: NDArray[Any]
    nodata: float | None = None


def read_array(path: str, channels: int | None, max_pixels: int) -> StoredArray | None:
    """Read an array or a TIFF; return None for images that Pillow reads.

    Args:
        path: The file.
        channels: Required number of channels; None to detect it.
        max_pixels: Maximum number of pixels.

    Raises:
        ValueError: If it has other channels or more pixels, or an unsupported compression.
        OSError: If it cannot be read, or is not a regular file.
    """
    if not path.lower().endswith(TENSOR_SUFFIXES):
        return None
    if path.lower().endswith(".npy"):
        open_regular(path).close()
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # allocates no more memory than the file has
        pixels = channels_first(array, channels)
        check_size((pixels.shape[2], pixels.shape[1]), max_pixels)
        return StoredArray(pixels)
    return _read_tiff(path, channels, max_pixels)


def parse_array(content: bytes, channels: int | None, max_pixels: int) -> StoredArray | None:
    """Read the content of an array or a TIFF like :func:`read_array`, detected by its first bytes.

    Args:
        content: The content of the file.
        channels: Required number of channels; None to detect it.
        max_pixels: Maximum number of pixels.

    Raises:
        ValueError: As :func:`read_array`, or if an array is incomplete.
    """
    if content.startswith(_TIFF):
        return _parse_tiff(io.BytesIO(content), channels, max_pixels)
    if not is_array_start(content):
        return None
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_transposed, dtype = read(file)
    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize > len(content) - file.tell():  # nothing is allocated for the header
        raise ValueError("the array is incomplete or has objects")
    values = np.frombuffer(content, dtype, count, file.tell())
    pixels = channels_first(values.reshape(shape, order="F" if is_transposed else "C"), channels)
    check_size((pixels.shape[2], pixels.shape[1]), max_pixels)
    return StoredArray(pixels)


def is_array_start(head: bytes) -> bool:
    """Return whether these are the first bytes of a NumPy array (``.npy``)."""
    return head.startswith(np.lib.format.MAGIC_PREFIX)


def _read_tiff(path: str, channels: int | None, max_pixels: int) -> StoredArray | None:
    with open_regular(path) as opened:
        return _parse_tiff(opened, channels, max_pixels)


def _parse_tiff(opened: BinaryIO, channels: int | None, max_pixels: int) -> StoredArray | None:
    import tifffile  # slow to import and rarely needed

    try:
        return _read_pages(tifffile.TiffFile, opened, channels, max_pixels)
    except tifffile.TiffFileError as error:
        raise UnidentifiedImageError("its content is not an image of a known format") from error


def _read_pages(tiff_file: Any, opened: BinaryIO, channels: int | None, max_pixels: int) -> StoredArray | None:
    with tiff_file(opened) as file:
        page: Any = file.pages[0]
        check_size((page.imagewidth, page.imagelength), max_pixels)
        if channels is not None and _is_pillows(page, channels):
            return None
        # page by page, since the metadata of OME and others may cause other files to be opened
        pages = file.pages if page.ndim == 2 and len(file.pages) == channels else [page]
        try:
            parts = [part.asarray() for part in pages]
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = page.compression.name
            raise ValueError(f"its compression {name} can be read after: pip install imagecodecs") from error
        return StoredArray(
            channels_first(parts[0] if len(parts) == 1 else np.stack(parts), channels),
            parse_nodata(page.tags.valueof(GDAL_NODATA)),
        )


def _is_pillows(page: Any, channels: int) -> bool:
    """Return whether a page is a grayscale or color picture that Pillow converts to this number of channels."""
    if channels not in (1, 4) or page.dtype is None or page.dtype.kind == "f":
        return False
    if channels == 4 and page.ndim == 2 and len(page.parent.pages) == 4:
        return False
    has_alpha = page.extrasamples in ((1,), (2,))  # TIFF's codes for alpha; 0 is any other fourth channel
    colors = page.samplesperpixel - (1 if has_alpha else 0)
    return colors in (1, 3) or (channels == 1 and page.photometric.name == "SEPARATED")


def parse_nodata(tag: object) -> float | None:
    """Return the number in GDAL's tag; None without one.

    Args:
        tag: The tag's text, or any other value.
    """
    try:
        return float(str(tag).strip("\0 "))
    except ValueError:
        return None


def channels_first(array: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """Return an array of shape (H, W, C), (C, H, W) or (H, W) as a view (C, H, W).

    Args:
        array: The array.
        channels: C; None uses the shorter of the first and last axes.

    Raises:
        ValueError: If it has other channels, or another number of axes.
    """
    pixels = array
    if channels is None and array.ndim == 3:
        channels = min(array.shape[0], array.shape[2])
    if array.ndim == 2:
        pixels = array[None]
    elif array.ndim == 3 and array.shape[-1] == channels:
        pixels = array.transpose(2, 0, 1)
    if pixels.ndim != 3 or pixels.size == 0:
        raise ValueError(f"it is an array of shape {array.shape}, not of (H, W, C), (C, H, W) or (H, W)")
    if channels is not None and pixels.shape[0] != channels:
        raise ValueError(f"it is an array of shape {array.shape}, not one of {channels} channels (data.in_chans)")
    return pixels


def as_floats(stored: StoredArray, nodata: float | None = None, fill: Sequence[float] = ()) -> NDArray[np.float32]:
    """Convert values to floats, with integers scaled to [0, 1].

    Args:
        stored: The values.
        nodata: The value of pixels without data; None uses the file's own tag.
        fill: Their replacement per channel; 0 if not given.

    Raises:
        ValueError: If the values are neither unsigned integers nor finite floats.
    """
    pixels = stored.pixels
    missing = find_missing(pixels, stored.nodata if nodata is None else nodata)
    if pixels.dtype.kind == "u":
        values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    elif pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # values that do not fit into 32 bits become infinite
            values = pixels.astype(np.float32)
    else:
        raise ValueError(f"its values of type {pixels.dtype} are neither unsigned integers nor floats")
    if missing is not None:
        values = np.where(missing, np.array(fill or [0.0], np.float32)[:, None, None], values)
    if not np.isfinite(values).all():
        raise ValueError(f"some of its values of type {pixels.dtype} are not finite floats (see data.input.nodata)")
    return np.ascontiguousarray(values)


def find_missing(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Return a mask of the values without data, if any.

    Args:
        values: The array.
        nodata: The value that means no data, rounded to the array's precision; NaN matches all NaNs.
    """
    if nodata is None:
        return None
    if math.isnan(nodata):
        found = np.isnan(values)
    elif values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = values == np.array(nodata).astype(values.dtype)
    else:
        found = values == nodata
    return found if found.any() else None
