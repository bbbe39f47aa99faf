"""Metrics of a classifier over all images, with bootstrap intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.bootstrap import Array, Bootstrap, wilson
from inceptionnext_lit.reports.evaluation.ranking import Ranking
from inceptionnext_lit.reports.evaluation.table import PredictionTable

_TOP = 5
_EXACT_CELLS = 200_000_000  # classes x images x resamples up to which the AUROC is computed for every resample
RESAMPLED, LINEARIZED = "resampled", "linearized"
Numbers = tuple[Array, Array, Array]
"""Numbers of images with a class, predicted as it, and both, each (R, K)."""


@dataclass(frozen=True)
class Metric:
    """A metric with its confidence interval.

    Attributes:
        value: Its value; NaN if undefined.
        low: Lower end of the interval; NaN if undefined.
        high: Upper end of the interval; NaN if undefined.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of each class against the rest, each of shape (K,); NaN where undefined.

    Attributes:
        support: Number of images with the class.
        predicted: Number of images that the class was predicted for.
        precision: Share of the predicted images that have the class.
        recall: Share of the images with the class that it was predicted for.
        f1: Harmonic mean of both.
        auroc: Area under the ROC curve.
        average_precision: Mean precision at the scores of the images with the class.
        recall_low: Lower end of the recall's interval; NaN for fewer than two images.
        recall_high: Upper end of the recall's interval; NaN for fewer than two images.
    """

    support: Array
    predicted: Array
    precision: Array
    recall: Array
    f1: Array
    auroc: Array
    average_precision: Array
    recall_low: Array
    recall_high: Array


@dataclass(frozen=True)
class Summary:
    """The metrics of a set of predictions.

    Attributes:
        metrics: Metrics over all images by name.
        classes: Metrics of each class.
        auroc_intervals: ``resampled``, or ``linearized``: to first order in the weights of the images, for many images
            and classes.
    """

    metrics: dict[str, Metric]
    classes: ClassMetrics
    auroc_intervals: str


class Counts:
    """Weighted numbers of images per true and predicted class.

    Args:
        true: The class of each image, int64 (N,).
        predicted: The predicted class, int64 (N,).
        classes: Number of classes K.
    """

    def __init__(self, true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> None:
        self._of_true = _Sums(true, classes)
        self._of_predicted = _Sums(predicted, classes)
        self._correct = (true == predicted).astype(np.float64)

    def __call__(self, weights: Array) -> tuple[Array, Array, Array]:
        """Return the numbers of images with a class, predicted as it, and both, each (R, K), for weights (R, N)."""
        return self._of_true(weights), self._of_predicted(weights), self._of_true(weights * self._correct)


class _Sums:
    """Sums of weights by class."""

    def __init__(self, of_image: NDArray[np.int64], classes: int) -> None:
        self._order = np.argsort(of_image, kind="stable")
        counts = np.bincount(of_image, minlength=classes)
        self._present = np.flatnonzero(counts)
        self._starts = (np.cumsum(counts) - counts)[self._present]
        self._classes = classes

    def __call__(self, weights: Array) -> Array:
        sums = np.zeros((len(weights), self._classes))
        if len(self._present):
            sums[:, self._present] = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        return sums


def summarize(table: PredictionTable, bootstrap: Bootstrap) -> Summary:
    """Compute the metrics of single-label predictions.

    ``acc1`` and ``acc5`` are top-1 and top-5 accuracy; ``macro_acc`` is the mean of the classes' recalls; ``macro_f1``
    and ``weighted_f1`` are means of the classes' F1, the latter by support; ``log_loss`` is the mean cross-entropy in
    nats; ``auroc`` is the mean over classes of the area under the ROC curve of one class against the rest; ``mcc`` is
    Matthews' correlation coefficient. Means over classes leave out classes without images, as scikit-learn does.

    Args:
        table: The predictions, at least one.
        bootstrap: How images are resampled; groups are if the table has some.
    """
    count, classes = len(table), len(table.class_names)
    statistics = _statistics(table)
    counts = Counts(_indices(table), table.predicted, classes)
    ones = np.ones((1, count))
    whole = [float(statistic(ones, counts(ones))[0]) for statistic in statistics.values()]

    exact = classes * count * bootstrap.resamples <= _EXACT_CELLS
    rankings, influence = [], np.zeros(count)
    areas, precisions = np.full((2, classes), np.nan)
    for k in range(classes):
        ranking = Ranking.of(table.logits[:, k], table.labels == k)
        areas[k], precisions[k] = ranking.auroc(ones)[0], ranking.average_precision(ones)[0]
        if exact:
            rankings.append(ranking)
        elif np.isfinite(areas[k]):
            influence += ranking.influence()
    influence /= max(int(np.isfinite(areas).sum()), 1)
    area = float(mean_of_defined(areas[:, None])[0])
    sampled, recalls = [], []
    for weights in bootstrap.weights(count, table.groups):
        numbers = counts(weights)
        columns = [statistic(weights, numbers) for statistic in statistics.values()]
        if exact:
            columns.append(mean_of_defined(np.stack([ranking.auroc(weights) for ranking in rankings])))
        else:
            columns.append(area + weights @ influence / weights.sum(axis=1))
        sampled.append(np.stack(columns, axis=1))
        recalls.append(ratio(numbers[2], numbers[0]))
    units = count if table.groups is None else len(set(table.groups))
    low, high = bootstrap.ends(np.concatenate(sampled), units)
    names = [*statistics, "auroc"]
    values = [*whole, area]
    metrics = {
        name: Metric(value, float(low[i]), float(high[i]))
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    }
    order = ("acc1", "acc5", "macro_acc", "macro_f1", "weighted_f1", "log_loss", "auroc", "mcc")
    recall = None if table.groups is None else bootstrap.ends(np.concatenate(recalls), units)
    per_class = class_metrics(counts(ones), areas, precisions, recall)
    return Summary({name: metrics[name] for name in order}, per_class, RESAMPLED if exact else LINEARIZED)


def _statistics(table: PredictionTable) -> dict[str, Callable[[Array, Numbers], Array]]:
    """Return functions from weights (R, N), and the numbers of :class:`Counts`, to metrics (R,)."""
    correct = (table.ranks == 1).astype(np.float64)
    among = (table.ranks <= min(_TOP, len(table.class_names))).astype(np.float64)
    losses = table.losses

    def mean(values: Array) -> Callable[[Array, Numbers], Array]:
        return lambda weights, _: weights @ values / weights.sum(axis=1)

    return {
        "acc1": mean(correct),
        "acc5": mean(among),
        "log_loss": mean(losses),
        "macro_acc": lambda _, numbers: mean_of_defined(ratio(numbers[2], numbers[0]).T),
        "macro_f1": lambda _, numbers: mean_of_defined(f1_of(*numbers).T),
        "weighted_f1": lambda _, numbers: (
            (np.nan_to_num(f1_of(*numbers)) * numbers[0]).sum(axis=1) / numbers[0].sum(axis=1)
        ),
        "mcc": lambda _, numbers: _mcc(*numbers),
    }


def _indices(table: PredictionTable) -> NDArray[np.int64]:
    return table.labels.astype(np.int64)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Array:
    """Return a quotient in double precision; NaN where the divisor is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = part / whole
    return np.where(whole > 0, ratio, np.nan)


def f1_of(true: Array, predicted: Array, both: Array) -> Array:
    """Return the F1 of classes; NaN for those without images and predictions."""
    return ratio(2 * both, true + predicted)


def _mcc(true: Array, predicted: Array, both: Array) -> Array:
    """Return the coefficient of Gorodkin (2004); 0 if all images have one class, or are predicted as one."""
    total = true.sum(axis=1)
    covariance = both.sum(axis=1) * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def mean_of_defined(values: Array) -> Array:
    """Return the mean over the first axis of the values that are not NaN; NaN where all are."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return ratio(total, defined.sum(axis=0).astype(np.float64))


def class_metrics(
    numbers: Numbers, areas: Array, precisions: Array, recall: tuple[Array, Array] | None
) -> ClassMetrics:
    """Combine the metrics of classes.

    Args:
        numbers: Numbers of images with a class, predicted as it, and both, each (1, K).
        areas: Areas under the ROC curves, (K,).
        precisions: Average precisions, (K,).
        recall: Ends of the recalls' intervals, each (K,); None for Wilson's.
    """
    true, predicted, both = (of_classes[0] for of_classes in numbers)
    recall = recall or wilson(ratio(both, true), true)
    single = true < 2
    return ClassMetrics(
        support=true,
        predicted=predicted,
        precision=ratio(both, predicted),
        recall=ratio(both, true),
        f1=f1_of(true, predicted, both),
        auroc=areas,
        average_precision=precisions,
        recall_low=np.where(single, np.nan, recall[0]),
        recall_high=np.where(single, np.nan, recall[1]),
    )


def as_record(metric: Metric) -> dict[str, Any]:
    """Return a metric as plain data, with None where it is undefined."""
    return {name: defined(value) for name, value in vars(metric).items()}


def defined(value: float) -> float | None:
    """Return a value, or None if it is NaN or infinite, which JSON cannot store."""
    return float(value) if np.isfinite(value) else None
