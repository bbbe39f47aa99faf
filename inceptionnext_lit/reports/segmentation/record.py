"""An evaluation of a segmentation model as plain data, with the keys of ``report.json``."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from inceptionnext_lit.reports.evaluation.metrics import Metric, as_record, defined, ratio
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.segmentation.analysis import SceneAnalysis
from inceptionnext_lit.reports.segmentation.metrics import SceneComparison, SceneSummary
from inceptionnext_lit.reports.segmentation.objects import IOU, LIMITS, NUMBER, RECALL, SIZES
from inceptionnext_lit.reports.segmentation.table import SceneTable

_LISTED = 200  # worst images, and images of a comparison


def scene_record(analysis: SceneAnalysis, context: Context) -> dict[str, Any]:
    """Return an evaluation as plain data; undefined values are None.

    Args:
        analysis: The evaluation.
        context: Where it comes from.
    """
    table, summary = analysis.table, analysis.summary
    names, labeled = table.class_names, int(table.labeled.sum())
    return {
        "schema": 1,
        "task": "segmentation",
        "data": {
            "description": list(context.data),
            "root": context.root,
            "split": context.split,
            "images": len(table),
            "images_without_labels": int((table.labeled == 0).sum()),
            "classes": {name: score.images for name, score in zip(names, summary.classes, strict=True)},
            "pixels": int(table.sizes.prod(axis=1).sum()),
            "labeled_pixels": labeled,
            "splits": dict(Counter(table.splits)),
            "unreadable": [{"path": path, "reason": reason} for path, reason in context.unreadable],
        },
        "model": {"source": context.source, "weights": analysis.weights} | dict(context.model),
        "metrics": _metrics(summary.metrics),
        "weights": {name: _metrics(one.metrics) for name, one in analysis.other_weights.items()}
        | {analysis.weights: _metrics(summary.metrics)},
        "predict_uses": analysis.weights,
        "intervals": {
            "level": analysis.bootstrap.level,
            "resamples": analysis.bootstrap.resamples,
            "seed": analysis.bootstrap.seed,
            "unit": "images",
            "method": "percentile bootstrap",
        },
        "per_class": _per_class(analysis),
        "confusion": {"labels": names, "matrix": table.matrix.tolist()},
        "objects": {
            "small_below": LIMITS[0],
            "medium_below": LIMITS[1],
            "sizes": {
                size: {"objects": score.number} | _metrics(score.metrics) for size, score in summary.objects.items()
            },
            "per_class": _objects_per_class(table),
        },
        "worst": [image_record(table, index) for index in table.worst()[:_LISTED]],
        "cost": dict(context.cost),
        "curves": {name: [list(point) for point in points] for name, points in context.curves.items()},
        "command": context.command,
        "versions": dict(context.versions),
    }


def scene_comparison_record(analysis: SceneAnalysis, context: Context, comparison: SceneComparison) -> dict[str, Any]:
    """Return a comparison with the first model as plain data.

    Args:
        analysis: The evaluation of the other model.
        context: Where it comes from.
        comparison: The comparison.
    """
    table, summary = analysis.table, analysis.summary
    order = np.argsort(comparison.gains, kind="stable").tolist()
    order = [index for index in order if np.isfinite(comparison.gains[index])]
    listed = {
        "worse": [index for index in order if comparison.gains[index] < 0],
        "better": [index for index in order[::-1] if comparison.gains[index] > 0],
    }
    return {
        "model": {"source": context.source, "weights": analysis.weights} | dict(context.model),
        "metrics": _metrics(summary.metrics),
        **{f"{name}_difference": as_record(metric) for name, metric in comparison.metrics.items()},
        "per_class": {
            name: {"IoU": defined(score.iou.value), "IoU_difference": as_record(metric)}
            for name, score, metric in zip(table.class_names, summary.classes, comparison.classes, strict=True)
        },
        **{
            name: [{"path": table.paths[i], "mIoU_difference": float(comparison.gains[i])} for i in chosen[:_LISTED]]
            for name, chosen in listed.items()
        },
        "cost": dict(context.cost),
    }


def image_record(table: SceneTable, index: int) -> dict[str, Any]:
    """Return the metrics of an image as plain data.

    Args:
        table: The predictions.
        index: The image.
    """
    worst = int(table.worst_class[index])
    return {
        "path": table.paths[index],
        "mIoU": defined(float(table.mean_iou[index])),
        "accuracy": defined(float(table.accuracy[index])),
        "worst_class": None if worst < 0 else table.class_names[worst],
        "worst_class_IoU": None if worst < 0 else float(table.iou[index, worst]),
    }


def worst_classes_first(summary: SceneSummary) -> list[int]:
    """Return the classes by ascending IoU; those without pixels come last."""
    order: list[int] = np.argsort([score.iou.value for score in summary.classes], kind="stable").tolist()
    return order


def _metrics(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: as_record(metric) for name, metric in metrics.items()}


def _per_class(analysis: SceneAnalysis) -> dict[str, Any]:
    names, classes = analysis.table.class_names, analysis.summary.classes
    rows = {}
    for k in worst_classes_first(analysis.summary):
        score, other = classes[k], analysis.confusion.most_confused(k)
        rows[names[k]] = {
            "IoU": defined(score.iou.value),
            "IoU_low": defined(score.iou.low),
            "IoU_high": defined(score.iou.high),
            "accuracy": defined(score.accuracy.value),
            "accuracy_low": defined(score.accuracy.low),
            "accuracy_high": defined(score.accuracy.high),
            "pixels": score.pixels,
            "predicted_pixels": score.predicted,
            "images": score.images,
            "confused_with": None if other is None else names[other[0]],
            "confused_pixels": 0 if other is None else other[1],
        }
    return rows


def _objects_per_class(table: SceneTable) -> dict[str, Any]:
    sums = table.class_objects
    if sums is None:
        return {}
    means = ratio(sums, sums[..., NUMBER : NUMBER + 1])
    return {
        name: {
            size: {
                "objects": int(sums[k, place, NUMBER]),
                "recall": defined(means[k, place, RECALL]),
                "IoU": defined(means[k, place, IOU]),
            }
            for place, size in enumerate(SIZES)
        }
        for k, name in enumerate(table.class_names)
    }
