"""Images with channels that Pillow has no mode for: TIFF files and NumPy arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.opening import check_size, open_regular

TENSOR_SUFFIXES = (".npy", ".tif", ".tiff")
"""Endings of the files that may hold other channels than Pillow knows."""


def read_array(path: str, channels: int, max_pixels: int) -> NDArray[np.float32] | None:
    """Channels as they are stored, (C, H, W), of an array or a TIFF; None for what Pillow reads.

    Args:
        path: The file.
        channels: How many it must have.
        max_pixels: The most pixels that it may have.

    Raises:
        ValueError: If it has other channels, more pixels, or values of no defined brightness.
        OSError: If it cannot be read, or is no regular file.
    """
    if not path.lower().endswith(TENSOR_SUFFIXES):
        return None
    if path.lower().endswith(".npy"):
        open_regular(path).close()
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # claims no more memory than the file has
        check_size(_channels_first(array, channels).shape[:0:-1], max_pixels)
        return as_channels(array, channels)
    pixels = _read_tiff(path, channels, max_pixels)
    return None if pixels is None else as_channels(pixels, channels)


def _read_tiff(path: str, channels: int, max_pixels: int) -> NDArray[Any] | None:
    import tifffile  # takes a while to import, and few need it

    with open_regular(path) as opened, tifffile.TiffFile(opened) as file:
        page: Any = file.pages[0]
        check_size((page.imagewidth, page.imagelength), max_pixels)
        has_alpha = page.extrasamples in ((1,), (2,))  # TIFF's codes for alpha; 0 is any other fourth channel
        if page.photometric.name == "PALETTE" or (channels == 4 and has_alpha) or (channels == 1 and page.ndim == 2):
            return None
        # page by page, since the descriptions that OME and others add may have other files opened
        if page.ndim == 2 and len(file.pages) == channels:
            return np.stack([part.asarray() for part in file.pages])
        pixels: NDArray[Any] = page.asarray()
        return pixels


def as_channels(array: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """An array of (H, W, C), (C, H, W) or (H, W) as floats (C, H, W), integers scaled to [0, 1].

    Raises:
        ValueError: If it has other channels, or values of no defined brightness.
    """
    pixels = _channels_first(array, channels)
    if array.dtype.kind == "u":
        return np.ascontiguousarray(pixels.astype(np.float32) / np.iinfo(array.dtype).max)
    if array.dtype.kind == "f" and np.isfinite(pixels).all():
        return np.ascontiguousarray(pixels.astype(np.float32))
    raise ValueError(f"its values of type {array.dtype} are neither unsigned integers nor finite floats")


def _channels_first(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """A view (C, H, W)."""
    pixels = array
    if array.ndim == 2:
        pixels = array[None]
    elif array.ndim == 3 and array.shape[-1] == channels:
        pixels = array.transpose(2, 0, 1)
    if pixels.ndim != 3 or pixels.shape[0] != channels:
        raise ValueError(f"it is an array of shape {array.shape}, not one of {channels} channels (data.in_chans)")
    return pixels
