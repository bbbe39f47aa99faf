"""Confidence intervals by bootstrap resampling of images (Efron and Tibshirani, 1993), or of groups of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CELLS = 4_000_000  # weights held in memory at a time


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of images with replacement.

    Attributes:
        resamples: Number of resamples.
        seed: Seed of the draws.
        level: Confidence level.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def weights(self, images: int, groups: Sequence[str] | None = None) -> Iterator[Array]:
        """Yield how often each image is in each resample, in blocks of shape (R, N).

        Args:
            images: Number of images N.
            groups: Group of each image, which are then drawn instead of images.
        """
        units, count = np.arange(images), images
        if groups is not None:
            names, units = np.unique(np.array(groups, dtype=str), return_inverse=True)
            count = len(names)
        rng = np.random.default_rng(self.seed)
        left = self.resamples
        while left > 0:
            block = max(1, min(left, _CELLS // max(images, 1)))
            drawn = rng.integers(count, size=(block, count)) + count * np.arange(block)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=block * count).reshape(block, count)
            yield counts[:, units].astype(np.float64)
            left -= block

    def intervals(
        self, statistic: Callable[[Array], Array], images: int, groups: Sequence[str] | None = None
    ) -> tuple[Array, Array]:
        """Return the lower and upper ends of percentile intervals.

        Args:
            statistic: Function from weights (R, N) to values (R, M); NaN where a value is undefined.
            images: Number of images N.
            groups: Group of each image, if groups are resampled.

        Returns:
            The ends of the M intervals, NaN where most resamples are undefined.
        """
        values = np.concatenate([statistic(weights) for weights in self.weights(images, groups)])
        return self.ends(values, images if groups is None else len(set(groups)))

    def ends(self, values: Array, units: int) -> tuple[Array, Array]:
        """Return the ends of the intervals of resampled values (R, M); NaN with fewer than two units to resample.

        Args:
            values: The values.
            units: Number of images or groups that were resampled.
        """
        mostly = (np.isfinite(values).mean(axis=0) > 0.5) & (units > 1)
        low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
        if mostly.any():
            tail = 50 * (1 - self.level)
            low[mostly], high[mostly] = np.nanpercentile(values[:, mostly], [tail, 100 - tail], axis=0)
        return low, high


def wilson(share: Array, images: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Return the ends of Wilson's intervals of shares (Wilson, 1927), which also hold for shares of 0 and 1.

    Args:
        share: The shares, of any shape; NaN where undefined.
        images: Number of images of each.
        level: Confidence level.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        center = share + z**2 / (2 * images)
        spread = z * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
        low, high = (center - spread) / (1 + z**2 / images), (center + spread) / (1 + z**2 / images)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
