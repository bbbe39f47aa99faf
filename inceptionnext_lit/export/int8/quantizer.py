"""What a format offers for int8 files."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Batches(Protocol):
    """Calibration images, which may be read several times."""

    def __call__(self) -> "Iterator[np.ndarray]":
        """Yield batches as the file takes them."""
        ...


class Quantizer(Protocol):
    """A calibrated classifier, some of whose layers are written in int8.

    Attributes:
        layers: Names of the layers that can be quantized, in the order of the model.
        method: How weights and activations are quantized.
    """

    layers: Sequence[str]
    method: str

    @property
    def smoothed(self) -> "Quantizer | None":
        """The same with activations smoothed by SmoothQuant; None if the format has no such files."""
        ...

    def write(self, file: Path, layers: Collection[str]) -> None:
        """Write the classifier.

        Args:
            file: The file.
            layers: The layers to quantize, at least one; the others stay in floats.
        """
        ...
