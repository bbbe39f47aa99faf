"""Compare classifiers on the same images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.table import PredictionTable

_EXACT = 10_000  # discordant images up to which McNemar's test is exact


@dataclass(frozen=True)
class Comparison:
    """A classifier compared with the first one, on the same images.

    Attributes:
        difference: Its accuracy minus the first one's.
        low: Lower end of the paired bootstrap interval.
        high: Upper end of it.
        only_first: Indices of the images that only the first classifier gets right.
        only_second: Indices of the images that only this one gets right.
        p_value: Two-sided p-value of McNemar's test: exact binomial up to 10,000 discordant images, else chi-squared
            with continuity correction.
    """

    difference: float
    low: float
    high: float
    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]
    p_value: float


def compare(first: PredictionTable, second: PredictionTable, bootstrap: Bootstrap) -> Comparison:
    """Compare single-label predictions for the same images in the same order."""
    right = [table.ranks == 1 for table in (first, second)]
    gain = right[1].astype(np.float64) - right[0]
    low, high = bootstrap.intervals(
        lambda weights: (weights @ gain / weights.sum(axis=1))[:, None], len(first), first.groups
    )
    only_first, only_second = np.flatnonzero(gain < 0), np.flatnonzero(gain > 0)
    return Comparison(
        float(gain.mean()),
        float(low[0]),
        float(high[0]),
        only_first,
        only_second,
        mcnemar(len(only_first), len(only_second)),
    )


def mcnemar(one: int, other: int) -> float:
    """Return the two-sided p-value of McNemar's test.

    Args:
        one: Number of images that only one classifier gets right.
        other: Number of images that only the other one gets right.
    """
    from scipy.stats import binomtest, chi2  # slow to import

    total = one + other
    if not total:
        return 1.0
    if total <= _EXACT:
        return float(binomtest(one, total).pvalue)
    return float(chi2.sf((abs(one - other) - 1) ** 2 / total, 1))
