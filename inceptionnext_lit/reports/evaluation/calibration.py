"""Whether probabilities can be trusted: calibration, temperature scaling, and accuracy against coverage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from inceptionnext_lit.reports.evaluation.table import PredictionTable

BINS = 15
_PRECISIONS = (0.95, 0.99)
_LIMIT = float(np.log(100))  # of the logarithm of a temperature
_CHUNK = 4096  # images


@dataclass(frozen=True)
class Bin:
    """Images whose confidence is in an interval.

    Attributes:
        low: Lower end of the interval.
        high: Upper end, included.
        images: Number of images; of labels, if an image may have several.
        confidence: Mean confidence; NaN without images.
        accuracy: Share that was right; NaN without images.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Agreement of probabilities with frequencies.

    Attributes:
        ece: Expected calibration error of the most probable class (Guo et al., 2017), with 15 bins of equal width; for
            several labels, of all labels' probabilities.
        brier: Mean over images of the squared error of the probabilities, summed over classes; for several labels,
            averaged over them.
        log_loss: Mean cross-entropy in nats.
        bins: The bins of the reliability diagram.
    """

    ece: float
    brier: float
    log_loss: float
    bins: list[Bin]


@dataclass(frozen=True)
class Scaling:
    """Temperature scaling (Guo et al., 2017), fitted on other images than it is evaluated on.

    Attributes:
        temperature: What logits are divided by.
        fitted_on: Number of images that it was fitted on.
        source: How fitting and evaluation were kept apart: ``half`` or ``folds``.
        before: Calibration of the evaluated images as they are.
        after: Their calibration with the temperature.
    """

    temperature: float
    fitted_on: int
    source: str
    before: Calibration
    after: Calibration


@dataclass(frozen=True)
class Coverage:
    """Accuracy when only the most confident images are answered.

    Attributes:
        coverage: Share of images answered, ascending.
        accuracy: Accuracy on them.
        confidence: Confidence of the least confident of them.
        thresholds: For each wanted accuracy, the smallest confidence from which on it is reached, with the coverage;
            None if it is never reached.
    """

    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]
    thresholds: dict[float, tuple[float, float] | None]


def calibration(table: PredictionTable) -> Calibration:
    """Measure the calibration of predictions."""
    probabilities = torch.from_numpy(table.probabilities)
    if table.multi_label:
        labels = torch.from_numpy(table.labels)
        ece = binary_calibration_error(probabilities.flatten(), labels.flatten().long(), n_bins=BINS, norm="l1")
        brier = float(((table.probabilities.astype(np.float64) - table.labels) ** 2).mean())
        confidences, correct = table.probabilities.ravel(), table.labels.ravel()
    else:
        labels = torch.from_numpy(table.labels)
        ece = multiclass_calibration_error(probabilities, labels, len(table.class_names), n_bins=BINS, norm="l1")
        brier = _brier(table)
        confidences, correct = table.confidences, table.predicted == table.labels
    loss = float(table.losses.mean())
    return Calibration(float(ece), brier, loss, _bins(confidences.astype(np.float64), correct.astype(np.float64)))


def fit_temperature(table: PredictionTable) -> float:
    """Return the temperature that minimizes the cross-entropy of predictions, by L-BFGS on its logarithm.

    It stays between 0.01 and 100, which it approaches if all predictions are right, or worthless.
    """
    logits, labels = torch.from_numpy(table.logits), torch.from_numpy(table.labels)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        total = 0.0
        for start in range(0, len(logits), _CHUNK):
            part, targets = logits[start : start + _CHUNK].double(), labels[start : start + _CHUNK]
            scaled = part / log_temperature.clamp(-_LIMIT, _LIMIT).exp()
            if table.multi_label:
                value = F.binary_cross_entropy_with_logits(scaled, targets.double(), reduction="sum")
            else:
                value = F.cross_entropy(scaled, targets, reduction="sum")
            (value / len(logits)).backward()  # type: ignore[no-untyped-call]
            total += float(value.detach()) / len(logits)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().clamp(-_LIMIT, _LIMIT).exp())


def scale_temperature(table: PredictionTable, seed: int = 0) -> Scaling | None:
    """Fit a temperature, and measure the calibration before and after on images that it was not fitted on.

    With folds, each fold is scaled with the temperature of the others, and the temperature of all is returned. Without,
    a half of the images of each class is fitted on and the rest is evaluated; groups are not divided.

    Args:
        table: The predictions.
        seed: Seed of the halves.

    Returns:
        The scaling; None with fewer than two images or groups to divide.
    """
    if table.folds is not None and len(np.unique(table.folds)) > 1:
        logits = np.empty_like(table.logits)
        for fold in np.unique(table.folds):
            held = table.folds == fold
            logits[held] = table.take(held).scaled(fit_temperature(table.take(~held))).logits
        after = PredictionTable(table.class_names, table.paths, table.labels, logits)
        return Scaling(fit_temperature(table), len(table), "folds", calibration(table), calibration(after))
    fitted = halve(table, seed)
    if not 0 < fitted.sum() < len(table):
        return None
    temperature = fit_temperature(table.take(fitted))
    rest = table.take(~fitted)
    return Scaling(temperature, int(fitted.sum()), "half", calibration(rest), calibration(rest.scaled(temperature)))


def halve(table: PredictionTable, seed: int = 0) -> NDArray[np.bool_]:
    """Return a mask of about a half of the images of each class, (N,); images of a group are on the same side.

    Args:
        table: The predictions.
        seed: Seed of the draw.
    """
    rng = np.random.default_rng(seed)
    if table.groups is not None:
        names, of_image = np.unique(np.array(table.groups, dtype=str), return_inverse=True)
        side = np.zeros(len(names), dtype=bool)
        side[rng.permutation(len(names))[: len(names) // 2]] = True
        return side[of_image]
    strata = table.labels.sum(axis=1) if table.multi_label else table.labels
    order = np.lexsort((rng.random(len(table)), strata))
    chosen = np.zeros(len(table), dtype=bool)
    chosen[order[::2]] = True
    return chosen


def cover(table: PredictionTable, precisions: Sequence[float] = _PRECISIONS) -> Coverage:
    """Return the accuracy against the share of images answered, most confident first.

    Args:
        table: Single-label predictions.
        precisions: Accuracies to find thresholds for.
    """
    confidences = table.confidences.astype(np.float64)
    order = np.argsort(-confidences, kind="stable")
    correct = (table.predicted == table.labels)[order]
    answered = np.arange(1, len(order) + 1)
    last = np.append(confidences[order][1:] != confidences[order][:-1], True)  # a threshold takes all images of a tie
    coverage, accuracy = (answered / len(order))[last], (np.cumsum(correct) / answered)[last]
    confidence = confidences[order][last]
    thresholds: dict[float, tuple[float, float] | None] = {}
    for precision in precisions:
        reached = np.flatnonzero(accuracy >= precision)
        place = int(reached[-1]) if len(reached) else None
        thresholds[precision] = None if place is None else (float(confidence[place]), float(coverage[place]))
    return Coverage(coverage, accuracy, confidence, thresholds)


def _brier(table: PredictionTable) -> float:
    squares = np.einsum("nk,nk->n", table.probabilities, table.probabilities, dtype=np.float64)
    of_true = table.probabilities[np.arange(len(table)), table.labels].astype(np.float64)
    return float((squares - 2 * of_true + 1).mean())


def _bins(confidences: NDArray[np.float64], correct: NDArray[np.float64]) -> list[Bin]:
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, BINS - 1)
    images = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=values, minlength=BINS) for values in (confidences, correct)]
    return [
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(images[i]),
            float(sums[0][i] / images[i]) if images[i] else float("nan"),
            float(sums[1][i] / images[i]) if images[i] else float("nan"),
        )
        for i in range(BINS)
    ]
