"""Images with channels that Pillow has no mode for: TIFF files and NumPy arrays."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from inceptionnext_lit.data.loading import TENSOR_SUFFIXES


def read_array(path: str, channels: int) -> Tensor | None:
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
