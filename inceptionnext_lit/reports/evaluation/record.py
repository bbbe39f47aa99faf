"""An evaluation as plain data, with the keys of ``report.json``."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inceptionnext_lit.data.class_words import class_words
from inceptionnext_lit.reports.evaluation.analysis import Analysis, MultiLabelDetails, SingleLabelDetails
from inceptionnext_lit.reports.evaluation.calibration import Calibration, Scaling
from inceptionnext_lit.reports.evaluation.comparison import Comparison, accuracy_name
from inceptionnext_lit.reports.evaluation.label_errors import METHOD
from inceptionnext_lit.reports.evaluation.metrics import ClassMetrics, Summary, as_record, defined
from inceptionnext_lit.reports.evaluation.multi_label import precision_recall
from inceptionnext_lit.reports.evaluation.table import PredictionTable

_LISTED = 200  # mistakes, label errors and images of a comparison


@dataclass(frozen=True)
class Context:
    """Where an evaluation comes from.

    Attributes:
        data: Description of the images, one sentence each.
        root: The data folder, manifest or table.
        split: The chosen split.
        unreadable: Files that were left out, and the reasons.
        source: The checkpoint, weights or table.
        model: Plain data on the model, such as its name and preprocessing.
        cost: Plain data on parameters, MACs, speed and file size.
        command: The command that repeats the evaluation.
        versions: Versions of the libraries.
        curves: Logged metrics of the run by name: pairs of epoch and value.
    """

    data: tuple[str, ...]
    root: str
    split: str
    source: str
    command: str
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    model: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)


def as_plain(analysis: Analysis, context: Context) -> dict[str, Any]:
    """Return an evaluation as plain data; undefined values are None.

    Args:
        analysis: The evaluation.
        context: Where it comes from.
    """
    table = analysis.table
    record = {
        "schema": 1,
        "data": {
            "description": list(context.data),
            "root": context.root,
            "split": context.split,
            "images": len(table),
            "classes": _class_counts(table),
            "splits": dict(Counter(table.splits)),
            "multi_label": table.multi_label,
            "unreadable": [{"path": path, "reason": reason} for path, reason in context.unreadable],
        },
        "model": {"source": context.source, "weights": analysis.weights or None} | dict(context.model),
        "metrics": _metrics(analysis.summary),
        "weights": {name: _metrics(one) for name, one in analysis.other_weights.items()}
        | ({analysis.weights: _metrics(analysis.summary)} if analysis.weights else {}),
        "predict_uses": analysis.weights or None,
        "intervals": {
            "level": analysis.bootstrap.level,
            "resamples": analysis.bootstrap.resamples,
            "seed": analysis.bootstrap.seed,
            "unit": "images" if table.groups is None else "groups",
            "method": "percentile bootstrap",
            "auroc": analysis.summary.auroc_intervals,
            "classes_with_fewer_than_two_images": [
                name
                for name, support in zip(table.class_names, analysis.summary.classes.support, strict=True)
                if support < 2
            ],
        },
        "per_class": _per_class(analysis),
        "calibration": _calibration(analysis.calibration) | {"temperature_scaling": _scaling(analysis.scaling)},
        "slices": [
            {"column": one.column, "value": one.value, "images": one.images}
            | {"accuracy": one.accuracy, "low": defined(one.low), "high": defined(one.high)}
            for one in analysis.slices
        ],
        "mistakes": _images(table, analysis.mistakes[:_LISTED]),
        "cost": dict(context.cost),
        "curves": {name: [list(point) for point in points] for name, points in context.curves.items()},
        "command": context.command,
        "versions": dict(context.versions),
    }
    if isinstance(analysis.details, MultiLabelDetails):
        return record | _of_several(table, analysis.details)
    return record | _of_one(analysis, analysis.details)


def compared(analysis: Analysis, context: Context, comparison: Comparison) -> dict[str, Any]:
    """Return a comparison with the first classifier as plain data.

    Args:
        analysis: The evaluation of the other classifier.
        context: Where it comes from.
        comparison: The comparison.
    """
    table = analysis.table
    return {
        "model": {"source": context.source, "weights": analysis.weights or None} | dict(context.model),
        "metrics": _metrics(analysis.summary),
        f"{accuracy_name(table)}_difference": {
            "value": comparison.difference,
            "low": defined(comparison.low),
            "high": defined(comparison.high),
        },
        "mcnemar": {
            "only_first": len(comparison.only_first),
            "only_second": len(comparison.only_second),
            "p_value": comparison.p_value,
        },
        "only_first": [table.paths[i] for i in comparison.only_first[:_LISTED].tolist()],
        "only_second": [table.paths[i] for i in comparison.only_second[:_LISTED].tolist()],
        "cost": dict(context.cost),
    }


def _class_counts(table: PredictionTable) -> dict[str, int]:
    classes = len(table.class_names)
    counts = table.labels.sum(axis=0) if table.multi_label else np.bincount(table.labels, minlength=classes)
    return dict(zip(table.class_names, counts.tolist(), strict=True))


def _metrics(summary: Summary) -> dict[str, Any]:
    return {name: as_record(metric) for name, metric in summary.metrics.items()}


def _per_class(analysis: Analysis) -> list[dict[str, Any]]:
    table, classes = analysis.table, analysis.summary.classes
    rows = []
    for k, name in enumerate(table.class_names):
        row = {"class": name, "support": int(classes.support[k]), "predicted": int(classes.predicted[k])}
        if (words := class_words(name)) is not None:
            row["words"] = words
        row |= {key: defined(float(getattr(classes, key)[k])) for key in _CLASS_KEYS}
        if isinstance(analysis.details, SingleLabelDetails):
            other = analysis.details.confusion.most_confused(k)
            row["confused_with"] = None if other is None else table.class_names[other[0]]
            row["confused_images"] = 0 if other is None else other[1]
        rows.append(row)
    return [rows[k] for k in worst_first(classes)]


_CLASS_KEYS = ("precision", "recall", "recall_low", "recall_high", "f1", "auroc", "average_precision")


def worst_first(classes: ClassMetrics) -> list[int]:
    """Return the classes by ascending F1; those without images come last."""
    order: list[int] = np.lexsort((np.nan_to_num(classes.f1), classes.support == 0)).tolist()
    return order


def _calibration(calibration: Calibration) -> dict[str, Any]:
    bins = [{key: defined(value) for key, value in vars(one).items()} for one in calibration.bins]
    return {"ece": calibration.ece, "brier": calibration.brier, "log_loss": calibration.log_loss, "bins": bins}


def _scaling(scaling: Scaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    return {
        "temperature": scaling.temperature,
        "fitted_on": scaling.fitted_on,
        "evaluated_on": "the other half" if scaling.source == "half" else "each fold, fitted on the others",
        "before": _calibration(scaling.before),
        "after": _calibration(scaling.after),
    }


def _of_one(analysis: Analysis, details: SingleLabelDetails) -> dict[str, Any]:
    table, coverage = analysis.table, details.coverage
    thresholds = {
        f"{accuracy:.0%}": None if found is None else {"threshold": found[0], "coverage": found[1]}
        for accuracy, found in coverage.thresholds.items()
    }
    kept = np.unique(np.linspace(0, len(coverage.coverage) - 1, 201).astype(int))
    errors = details.label_errors
    suspected = _images(table, errors.images[:_LISTED])
    for row, suggested in zip(suspected, errors.suggested[:_LISTED].tolist(), strict=True):
        row["suggested_label"] = table.class_names[suggested]
    return {
        "confusion": {"labels": table.class_names, "matrix": details.confusion.matrix.tolist()},
        "coverage": {
            "thresholds": thresholds,
            "curve": [
                {"coverage": float(coverage.coverage[i]), "accuracy": float(coverage.accuracy[i])}
                | {"threshold": float(coverage.confidence[i])}
                for i in kept.tolist()
            ],
        },
        "unsure_but_right": _images(table, analysis.unsure[:_LISTED]),
        "label_errors": {"method": METHOD, "count": len(errors.images), "images": suspected},
    }


def _of_several(table: PredictionTable, details: MultiLabelDetails) -> dict[str, Any]:
    chosen = details.thresholds
    thresholds = None
    if chosen is not None:
        thresholds = {
            "chosen_on": chosen.chosen_on,
            "values": dict(zip(table.class_names, chosen.values.tolist(), strict=True)),
            "f1_on_the_rest": float(chosen.f1.mean()),
            "f1_on_the_rest_at_half": float(chosen.f1_at_half.mean()),
        }
    curves = {}
    for k, name in enumerate(table.class_names):
        recall, precision = precision_recall(table, k)
        curves[name] = {"recall": recall.tolist(), "precision": precision.tolist()}
    return {
        "thresholds": thresholds,
        "precision_recall": curves,
        "errors_together": {"labels": table.class_names, "matrix": details.errors_together.tolist()},
    }


def _images(table: PredictionTable, indices: Iterable[int]) -> list[dict[str, Any]]:
    names = table.class_names
    rows = []
    for i in map(int, indices):
        row: dict[str, Any] = {"path": table.paths[i]}
        if table.multi_label:
            present = table.present[i]
            row["true_labels"] = [names[k] for k in np.flatnonzero(table.labels[i]).tolist()]
            row["predicted_labels"] = [names[k] for k in np.flatnonzero(present).tolist()]
        else:
            row["true_label"] = names[int(table.labels[i])]
            row["true_probability"] = float(table.probabilities[i, table.labels[i]])
            row["predicted_label"] = names[int(table.predicted[i])]
            row["probability"] = float(table.confidences[i])
            row["rank"] = int(table.ranks[i])
        rows.append(row | {"loss": float(table.losses[i])})
    return rows
