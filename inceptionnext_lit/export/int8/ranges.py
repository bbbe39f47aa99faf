"""Ranges of activations that lose least when they are divided into 256 steps."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

_BINS = 2048
_STEPS = 255
_TRIED = np.linspace(1.0, 0.1, 91)  # shares of the largest value


class Histogram:
    """The values of a tensor between known bounds.

    Args:
        low: The least value.
        high: The largest value.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._counts = np.zeros(_BINS)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values.

        Args:
            values: Of any shape.
        """
        if self.high > self.low:
            self._counts += np.histogram(values, _BINS, (self.low, self.high))[0]

    def best_range(self) -> tuple[float, float]:
        """Return the range with the least mean squared error: of values outside, and of rounding inside.

        It contains 0, as the zero point needs.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if not self._counts.any():
            return low, high
        width = (self.high - self.low) / _BINS
        values = np.asarray(self.low + width * (np.arange(_BINS) + 0.5), np.float64)
        for _ in range(2):  # one end after the other
            high = min((high * share for share in _TRIED), key=lambda end: self._error(values, low, end))
            low = min((low * share for share in _TRIED), key=lambda end: self._error(values, end, high))
        return float(low), float(high)

    def _error(self, values: NDArray[np.float64], low: float, high: float) -> float:
        outside = values - np.clip(values, low, high)
        rounding = ((high - low) / _STEPS) ** 2 / 12
        return float((self._counts * np.where(outside == 0, rounding, outside**2)).sum())


def bounds(batches: Iterable[Mapping[str, NDArray[np.float32]]]) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value of each tensor.

    Args:
        batches: Values by the tensors' names.
    """
    found: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, values in batch.items():
            low, high = float(values.min()), float(values.max())
            before = found.get(name, (low, high))
            found[name] = min(low, before[0]), max(high, before[1])
    return found
