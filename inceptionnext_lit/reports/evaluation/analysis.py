"""Everything that an evaluation says about one classifier."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.calibration import (
    Calibration,
    Coverage,
    Scaling,
    calibration,
    cover,
    scale_temperature,
)
from inceptionnext_lit.reports.evaluation.confusion import Confusion, confuse
from inceptionnext_lit.reports.evaluation.label_errors import LabelErrors, find_label_errors
from inceptionnext_lit.reports.evaluation.metrics import Summary, summarize
from inceptionnext_lit.reports.evaluation.multi_label import (
    Thresholds,
    choose_thresholds,
    errors_together,
    summarize_labels,
)
from inceptionnext_lit.reports.evaluation.slices import Slice, slice_images
from inceptionnext_lit.reports.evaluation.table import PredictionTable


@dataclass(frozen=True)
class SingleLabelDetails:
    """What is known only if each image has one label.

    Attributes:
        confusion: Which classes are mistaken for which.
        coverage: Accuracy on the most confident images.
        label_errors: Labels that are probably wrong.
    """

    confusion: Confusion
    coverage: Coverage
    label_errors: LabelErrors


@dataclass(frozen=True)
class MultiLabelDetails:
    """What is known only if an image may have several labels.

    Attributes:
        thresholds: A threshold per label; None with fewer than two images.
        errors_together: How many images have errors in both of two labels, (K, K).
    """

    thresholds: Thresholds | None
    errors_together: NDArray[np.int64]


@dataclass(frozen=True)
class Analysis:
    """An evaluation of one classifier.

    Attributes:
        table: Its predictions, with the weights that ``predict`` uses.
        weights: Which weights these are: ``raw``, ``ema``, or empty if unknown.
        summary: Metrics over all images and per class.
        other_weights: Metrics of the other weights by name, if there are any.
        calibration: Calibration on all images.
        scaling: Temperature scaling; None with fewer than two images.
        slices: Accuracy on parts of the images, worst first.
        details: What is known only with one label, or several labels, per image.
        mistakes: Indices of the wrong images, the most confident first; for several labels, the highest loss first.
        unsure: Indices of the right images, the least confident first; empty for several labels.
        bootstrap: How intervals were computed.
    """

    table: PredictionTable
    weights: str
    summary: Summary
    other_weights: dict[str, Summary]
    calibration: Calibration
    scaling: Scaling | None
    slices: list[Slice]
    details: SingleLabelDetails | MultiLabelDetails
    mistakes: NDArray[np.int64]
    unsure: NDArray[np.int64]
    bootstrap: Bootstrap


def analyze(tables: Mapping[str, PredictionTable], bootstrap: Bootstrap) -> Analysis:
    """Evaluate predictions.

    Args:
        tables: The predictions of each set of weights by name, on the same images; the last one is analyzed, and of
            the others only metrics are computed.
        bootstrap: How images are resampled.
    """
    *others, weights = tables
    table = tables[weights]
    summarized = summarize_labels if table.multi_label else summarize
    details: SingleLabelDetails | MultiLabelDetails
    if table.multi_label:
        present = table.present
        correct = (present == table.labels).mean(axis=1)
        mistakes = np.argsort(-table.losses, kind="stable")
        mistakes, unsure = mistakes[correct[mistakes] < 1], np.empty(0, dtype=np.int64)
        thresholds = choose_thresholds(table, bootstrap.seed) if len(table) > 1 else None
        details = MultiLabelDetails(thresholds, errors_together(table))
    else:
        is_right = table.ranks == 1
        correct = is_right.astype(np.float64)
        by_confidence = np.argsort(table.confidences, kind="stable")
        mistakes, unsure = by_confidence[::-1][~is_right[by_confidence[::-1]]], by_confidence[is_right[by_confidence]]
        details = SingleLabelDetails(confuse(table), cover(table), find_label_errors(table))
    return Analysis(
        table,
        weights,
        summarized(table, bootstrap),
        {name: summarized(tables[name], bootstrap) for name in others},
        calibration(table),
        scale_temperature(table, bootstrap.seed),
        slice_images(table, correct, bootstrap),
        details,
        mistakes,
        unsure,
        bootstrap,
    )
