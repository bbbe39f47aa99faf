"""Metrics of a classifier whose images may have several labels, thresholds per label, and errors that co-occur."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.bootstrap import Array, Bootstrap
from inceptionnext_lit.reports.evaluation.calibration import halve
from inceptionnext_lit.reports.evaluation.metrics import (
    RESAMPLED,
    Metric,
    Summary,
    class_metrics,
    f1_of,
    mean_of_defined,
    ratio,
)
from inceptionnext_lit.reports.evaluation.ranking import Ranking
from inceptionnext_lit.reports.evaluation.table import PredictionTable

HALF = 0.5
_CELLS = 200_000_000  # labels x images x resamples
_FEWEST = 100  # resamples
_PRECISIONS = 101  # points of a precision-recall curve


@dataclass(frozen=True)
class Thresholds:
    """A threshold per label that maximizes its F1, chosen on one half of the images and measured on the other.

    Attributes:
        values: The thresholds, (K,); one half for labels that no image of the first half has.
        chosen_on: Number of images that they were chosen on.
        f1: F1 of each label on the other images, (K,).
        f1_at_half: F1 of each label on them at a threshold of one half, (K,).
    """

    values: Array
    chosen_on: int
    f1: Array
    f1_at_half: Array


def summarize_labels(table: PredictionTable, bootstrap: Bootstrap) -> Summary:
    """Compute the metrics of multi-label predictions.

    ``mAP`` is the mean over labels of average precision; ``f1`` and ``micro_f1`` are at the table's thresholds, the
    former as the mean over labels; ``auroc`` is the mean over labels; ``subset_acc`` is the share of images whose
    labels are all right; ``log_loss`` is the binary cross-entropy in nats, averaged over labels.

    Args:
        table: The predictions, at least one.
        bootstrap: How images are resampled, at least 100 times; fewer than asked for many images and labels.
    """
    count, labels = table.labels.shape
    bootstrap = replace(
        bootstrap, resamples=min(bootstrap.resamples, max(_FEWEST, _CELLS // (count * labels))) if count else 1
    )
    present = table.present
    true = table.labels.astype(np.float64)
    chosen, both = present.astype(np.float64), (present & table.labels).astype(np.float64)
    all_right = (present == table.labels).all(axis=1).astype(np.float64)
    rankings = [Ranking.of(table.logits[:, k], table.labels[:, k]) for k in range(labels)]

    def numbers(weights: Array) -> tuple[Array, Array, Array]:
        return weights @ true, weights @ chosen, weights @ both

    def statistics(weights: Array) -> tuple[Array, Array]:
        of_labels = numbers(weights)
        total = weights.sum(axis=1)
        micro = [one.sum(axis=1) for one in of_labels]
        columns = [
            mean_of_defined(np.stack([ranking.average_precision(weights) for ranking in rankings])),
            np.nan_to_num(f1_of(*of_labels)).mean(axis=1),
            np.nan_to_num(f1_of(*micro)),
            mean_of_defined(np.stack([ranking.auroc(weights) for ranking in rankings])),
            weights @ all_right / total,
            weights @ table.losses / total,
        ]
        return np.stack(columns, axis=1), ratio(of_labels[2], of_labels[0])

    ones = np.ones((1, count))
    whole = statistics(ones)[0][0].tolist()
    sampled = [statistics(weights) for weights in bootstrap.weights(count, table.groups)]
    units = count if table.groups is None else len(set(table.groups))
    low, high = bootstrap.ends(np.concatenate([values for values, _ in sampled]), units)
    names = ("mAP", "f1", "micro_f1", "auroc", "subset_acc", "log_loss")
    metrics = {name: Metric(whole[i], float(low[i]), float(high[i])) for i, name in enumerate(names)}
    areas = np.array([float(ranking.auroc(ones)[0]) for ranking in rankings])
    precisions = np.array([float(ranking.average_precision(ones)[0]) for ranking in rankings])
    recall = None
    if table.groups is not None:
        recall = bootstrap.ends(np.concatenate([recalls for _, recalls in sampled]), units)
    return Summary(metrics, class_metrics(numbers(ones), areas, precisions, recall), RESAMPLED)


def choose_thresholds(table: PredictionTable, seed: int = 0) -> Thresholds:
    """Choose the threshold of each label that maximizes its F1.

    Args:
        table: Multi-label predictions.
        seed: Seed of the halves.
    """
    first = halve(table, seed)
    chosen, rest = table.take(first), table.take(~first)
    values = np.array([_best(chosen.probabilities[:, k], chosen.labels[:, k]) for k in range(chosen.labels.shape[1])])
    f1, at_half = (_f1_at(rest, limits) for limits in (values, np.full(len(values), HALF)))
    return Thresholds(values, int(first.sum()), f1, at_half)


def precision_recall(table: PredictionTable, label: int) -> tuple[Array, Array]:
    """Return recall and precision of a label, at most 101 points from the highest threshold to the lowest.

    Args:
        table: Multi-label predictions.
        label: Index of the label.
    """
    order = np.argsort(-table.logits[:, label], kind="stable")
    scores, positive = table.logits[order, label], table.labels[order, label]
    last = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(positive)
    recall, precision = (found / max(int(found[-1]), 1))[last], (found / np.arange(1, len(order) + 1))[last]
    kept = np.unique(np.linspace(0, len(recall) - 1, _PRECISIONS).astype(int))
    return recall[kept], precision[kept]


def errors_together(table: PredictionTable) -> NDArray[np.int64]:
    """Return how many images have errors in both of two labels, (K, K); on the diagonal, in one label."""
    wrong = (table.present != table.labels).astype(np.int64)
    together: NDArray[np.int64] = wrong.T @ wrong
    return together


def _best(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Return the threshold of the highest F1: halfway between two images' probabilities."""
    positives = int(labels.sum())
    if not positives:
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    scores = probabilities[order].astype(np.float64)
    found, chosen = np.cumsum(labels[order]), np.arange(1, len(order) + 1)
    last = np.append(scores[1:] != scores[:-1], True)
    f1 = np.where(last, 2 * found / (chosen + positives), -1)
    place = int(f1.argmax())
    below = scores[place + 1] if place + 1 < len(scores) else 0.0
    return float((scores[place] + below) / 2)


def _f1_at(table: PredictionTable, thresholds: Array) -> Array:
    present = table.probabilities >= thresholds
    sums = [of.sum(axis=0).astype(np.float64) for of in (table.labels, present, present & table.labels)]
    return np.nan_to_num(f1_of(*sums))
