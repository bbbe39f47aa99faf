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
        difference: Its accuracy, ``acc1`` or ``subset_acc``, minus the first one's.
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
    """Compare predictions for the same images in the same order; see :func:`is_right`."""
    right = [is_right(table) for table in (first, second)]
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


def is_right(table: PredictionTable) -> NDArray[np.bool_]:
    """Return whether the most probable class of each image is right, or all labels if it may have several, (N,)."""
    right: NDArray[np.bool_] = (table.present == table.labels).all(axis=1) if table.multi_label else table.ranks == 1
    return right


def accuracy_name(table: PredictionTable) -> str:
    """Return the name of the metric that classifiers are compared by: ``acc1``, or ``subset_acc``."""
    return "subset_acc" if table.multi_label else "acc1"


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
