"""Images with the properties that an evaluation divides them by: size, aspect ratio and brightness."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from inceptionnext_lit.data.datasets import UnlabeledImages
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, open_image
from inceptionnext_lit.data.device_batch import RawImages, stack_pixels
from inceptionnext_lit.data.transforms.pipeline import Transform


class MeasuredBatch(NamedTuple):
    """A batch of N images that could be read.

    Attributes:
        images: The raw images; None if none could be read.
        indices: The index of each image in the data set.
        sizes: Width and height of each file in pixels, float64 (N, 2); NaN for arrays.
        unreadable: The index of each other image, and the reason.
    """

    images: RawImages | None
    indices: list[int]
    sizes: np.ndarray
    unreadable: list[tuple[int, str]]


_Item = tuple[Tensor | str, int, tuple[float, float]]


class MeasuredImages(Dataset[_Item]):
    """Images with their index and size; an image that cannot be read is not an error.

    Args:
        paths: Path of each image.
        transform: Reads an image file and returns its pixels.
        max_pixels: Maximum number of pixels of an image.
    """

    def __init__(self, paths: Sequence[str], transform: Transform, max_pixels: int = MAX_PIXELS) -> None:
        self._images = UnlabeledImages(paths, transform)
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> _Item:
        """Return the image's pixels (C, H, W), or the reason why it cannot be read, its index, width and height."""
        pixels, path = self._images[index]
        size = (np.nan, np.nan)
        if isinstance(pixels, Tensor):
            with suppress(OSError, ValueError), open_image(path, self._max_pixels) as image:  # not for arrays
                size = image.size
        return pixels, index, size


def collate_measured(items: list[_Item]) -> MeasuredBatch:
    """Collate a batch."""
    images = [(pixels, index, size) for pixels, index, size in items if isinstance(pixels, Tensor)]
    return MeasuredBatch(
        RawImages(stack_pixels([pixels for pixels, _, _ in images])) if images else None,
        [index for _, index, _ in images],
        np.array([size for _, _, size in images], dtype=np.float64).reshape(-1, 2),
        [(index, pixels) for pixels, index, _ in items if isinstance(pixels, str)],
    )
