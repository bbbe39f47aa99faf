"""Images with channels that Pillow has no mode for: TIFF files and NumPy arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from inceptionnext_lit.data.decode.opening import check_size, open_regular

TENSOR_SUFFIXES = (".npy", ".tif", ".tiff")
"""Endings of the files that may hold other channels than Pillow knows."""

GDAL_NODATA = 42113
"""TIFF's tag for the value of pixels without data, as GDAL writes it."""


@dataclass(frozen=True)
class StoredArray:
    """What a file holds.

    Attributes:
        pixels: Values as they are stored, (C, H, W).
        nodata: The value of pixels without data, as the file's own tag has it.
    """

    pixels: NDArray[Any]
    nodata: float | None = None


def read_array(path: str, channels: int | None, max_pixels: int) -> StoredArray | None:
    """The channels of an array or a TIFF; None for what Pillow reads.

    Args:
        path: The file.
        channels: How many it must have; None to find out.
        max_pixels: The most pixels that it may have.

    Raises:
        ValueError: If it has other channels or more pixels, or is compressed in a way that is not known.
        OSError: If it cannot be read, or is no regular file.
    """
    if not path.lower().endswith(TENSOR_SUFFIXES):
        return None
    if path.lower().endswith(".npy"):
        open_regular(path).close()
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # claims no more memory than the file has
        pixels = channels_first(array, channels)
        check_size((pixels.shape[2], pixels.shape[1]), max_pixels)
        return StoredArray(pixels)
    return _read_tiff(path, channels, max_pixels)


def _read_tiff(path: str, channels: int | None, max_pixels: int) -> StoredArray | None:
    import tifffile  # takes a while to import, and few need it

    try:
        return _read_pages(tifffile.TiffFile, path, channels, max_pixels)
    except tifffile.TiffFileError as error:
        raise UnidentifiedImageError("its content is no image of a known format") from error


def _read_pages(tiff_file: Any, path: str, channels: int | None, max_pixels: int) -> StoredArray | None:
    with open_regular(path) as opened, tiff_file(opened) as file:
        page: Any = file.pages[0]
        check_size((page.imagewidth, page.imagelength), max_pixels)
        if channels is not None and _is_pillows(page, channels):
            return None
        # page by page, since the descriptions that OME and others add may have other files opened
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
    """Whether a page is a picture in grey or colour that Pillow converts to so many channels."""
    if channels not in (1, 4) or page.dtype is None or page.dtype.kind == "f":
        return False
    if channels == 4 and page.ndim == 2 and len(page.parent.pages) == 4:
        return False
    has_alpha = page.extrasamples in ((1,), (2,))  # TIFF's codes for alpha; 0 is any other fourth channel
    colours = page.samplesperpixel - (1 if has_alpha else 0)
    return colours in (1, 3) or (channels == 1 and page.photometric.name == "SEPARATED")


def parse_nodata(tag: object) -> float | None:
    """The number in GDAL's tag; None without one.

    Args:
        tag: The tag's text, or whatever else stands there.
    """
    try:
        return float(str(tag).strip("\0 "))
    except ValueError:
        return None


def channels_first(array: NDArray[Any], channels: int | None) -> NDArray[Any]:
    """An array of (H, W, C), (C, H, W) or (H, W) as a view (C, H, W).

    Args:
        array: The array.
        channels: C; None takes the shorter of the first and the last axis for that of the channels.

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
    """Values as floats, integers scaled to [0, 1].

    Args:
        stored: The values.
        nodata: Which of them stand for no data, where the file does not say so itself.
        fill: What comes in their place, for each channel; 0 if not given.

    Raises:
        ValueError: If they are neither unsigned integers nor finite floats.
    """
    pixels = stored.pixels
    missing = find_missing(pixels, stored.nodata if nodata is None else nodata)
    if pixels.dtype.kind == "u":
        values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    elif pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what does not fit into 32 bits becomes infinite
            values = pixels.astype(np.float32)
    else:
        raise ValueError(f"its values of type {pixels.dtype} are neither unsigned integers nor floats")
    if missing is not None:
        values = np.where(missing, np.array(fill or [0.0], np.float32)[:, None, None], values)
    if not np.isfinite(values).all():
        raise ValueError(f"some of its values of type {pixels.dtype} are not finite floats (see data.input.nodata)")
    return np.ascontiguousarray(values)


def find_missing(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where an array holds the value of no data; None if nowhere.

    Args:
        values: The array.
        nodata: That value, which is rounded to the array's precision; NaN stands for all that are not a number.
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
