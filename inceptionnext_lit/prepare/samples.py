"""The images of a split before they are prepared: files, or arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Files:
    """Image files, which stay where they are.

    Attributes:
        paths: The files.
        labels: The class of each file; several, separated by ``|``, if the data set is multi-label.
        groups: Groups that must stay in one split; None if there are none.
    """

    paths: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Arrays:
    """Images that are stored as arrays.

    Attributes:
        classes: The class names.
        labels: Index of each image's class.
        chunk: Returns the images from one index to another, ``(N, H, W)`` or ``(N, H, W, 3)``.
    """

    classes: Sequence[str]
    labels: NDArray[np.int64]
    chunk: Callable[[int, int], Pixels]

    def __len__(self) -> int:
        return len(self.labels)


Split = Files | Arrays
