"""The tables of the page of a segmentation model, with their texts."""

from collections.abc import Sequence

import numpy as np

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.reports.evaluation.metrics import Metric, ratio
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.evaluation.sections import (
    DASH,
    Section,
    interval,
    shade,
    share,
    unreadable_images,
    with_interval,
)
from inceptionnext_lit.reports.segmentation.analysis import SceneAnalysis
from inceptionnext_lit.reports.segmentation.metrics import OBJECT_METRICS, SceneComparison
from inceptionnext_lit.reports.segmentation.objects import IOU, LIMITS, NUMBER, SIZES
from inceptionnext_lit.reports.segmentation.record import worst_classes_first
from inceptionnext_lit.wording import count, printable

_NAMES = {
    "mIoU": "mean IoU (mIoU)",
    "mAcc": "mean class accuracy (mAcc)",
    "aAcc": "share of right pixels (aAcc)",
    "boundary_f1": "boundary F1 of the second class",
    "loss": "loss (nats per pixel)",
}
_WEIGHTS = {"raw": "raw weights", "ema": "averaged weights"}
_PAIRS = 20
_CHANGED = 20  # images of a comparison, each way
_LEAST_PERCENT = 0.05  # below this, a share in percent rounds to 0.0


def data(analysis: SceneAnalysis, context: Context) -> Section:
    """Return the description of the images, and those that could not be evaluated."""
    table = analysis.table
    labeled, pixels = int(table.labeled.sum()), int(table.sizes.prod(axis=1).sum())
    paragraph = f"{count(len(table), 'image')} evaluated, with {labeled / pixels:.1%} of their pixels labeled."
    if empty := int((table.labeled == 0).sum()):
        paragraph += (
            f" {count(empty, 'image has', 'images have')} no labeled pixel and only count in the table of images."
        )
    if absent := [
        display_name(name)
        for name, score in zip(table.class_names, analysis.summary.classes, strict=True)
        if not score.images
    ]:
        shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10:,} more" if len(absent) > 10 else "")
        paragraph += f" Without pixels in the masks: {shown}."
    return {
        "description": [printable(line) for line in context.data],
        "paragraph": paragraph,
        **unreadable_images(context),
    }


def metrics(analysis: SceneAnalysis) -> Section:
    """Return the metrics over all images of each set of weights."""
    sets = {**analysis.other_weights, analysis.weights: analysis.summary}
    rows = [
        [_NAMES[name], *(with_interval(summary.metrics[name]) for summary in sets.values())]
        for name in analysis.summary.metrics
    ]
    bootstrap = analysis.bootstrap
    note = f"Percentile bootstrap over images with {bootstrap.resamples:,} resamples (seed {bootstrap.seed}). "
    note += "A class that is neither in the masks nor predicted is left out of the means, as in MMSegmentation."
    if len(sets) > 1:
        note += f" predict uses the {_WEIGHTS[analysis.weights]}; the rest of this page is about them."
    return {"head": ["", *(_WEIGHTS[name] for name in sets)], "rows": rows, "note": note}


def classes(analysis: SceneAnalysis) -> Section:
    """Return the metrics of each class, worst first."""
    table, scores = analysis.table, analysis.summary.classes
    labeled = max(int(table.labeled.sum()), 1)
    rows = []
    for k in worst_classes_first(analysis.summary):
        score, other = scores[k], analysis.confusion.most_confused(k)
        confused = (
            DASH if other is None else f"{display_name(table.class_names[other[0]])} ({other[1] / score.pixels:.1%})"
        )
        rows.append(
            [
                display_name(table.class_names[k]),
                f"{score.images:,}",
                f"{score.pixels / labeled:.2%}",
                f"{score.predicted / labeled:.2%}",
                share(score.iou.value),
                interval(score.iou.low, score.iou.high),
                share(score.accuracy.value),
                interval(score.accuracy.low, score.accuracy.high),
                confused,
            ]
        )
    head = ["class", "images", "of the pixels", "predicted", "IoU", "95% interval", "accuracy", "95% interval"]
    note = (
        "Lowest IoU first. The accuracy is the share of the class's pixels that are predicted as it. A class in fewer "
    )
    note += "than two images has no interval."
    return {"caption": "Metrics of each class", "head": [*head, "most confused with"], "rows": rows, "note": note}


def confusion(analysis: SceneAnalysis) -> Section:
    """Return the confusion matrix in percent of each true class, or its most confused part."""
    found, names = analysis.confusion, [display_name(name) for name in analysis.table.class_names]
    shares = np.nan_to_num(ratio(found.matrix, found.matrix.sum(axis=1, keepdims=True)))
    rows = []
    for i in found.shown:
        cells = [{"text": _percent(shares[i, j]), "shade": shade(shares[i, j], right=i == j)} for j in found.shown]
        rows.append({"name": names[i], "cells": cells})
    note = ""
    if len(found.shown) < len(names):
        note = (
            f"The {len(found.shown)} of {len(names):,} classes with the most confusions, ordered so that classes "
            "confused with each other are neighbors. report.json and confusion.csv have the whole matrix."
        )
    pairs = [
        [names[true], names[predicted], f"{number:,}", f"{shares[true, predicted]:.1%}"]
        for true, predicted, number in found.pairs(_PAIRS)
    ]
    return {
        "note": note,
        "caption": "Percent of each true class's pixels (rows) by predicted class (columns); the diagonal is right",
        "columns": [names[i] for i in found.shown],
        "rows": rows,
        "pairs": pairs,
        "pairs_caption": "The most frequent confusions",
        "pairs_head": ["true class", "predicted", "pixels", "share of the class"],
    }


def objects(analysis: SceneAnalysis) -> Section:
    """Return how well objects are segmented, by size and by class."""
    table = analysis.table
    ranges = (f"below {LIMITS[0]:.2%}", f"{LIMITS[0]:.2%} to {LIMITS[1]:.0%}", f"{LIMITS[1]:.0%} or more")
    rows = [
        [
            f"{size} ({of_image} of the image)",
            f"{score.number:,}",
            *(with_interval(score.metrics[name]) for name in OBJECT_METRICS),
        ]
        for (size, score), of_image in zip(analysis.summary.objects.items(), ranges, strict=True)
    ]
    assert table.class_objects is not None
    sums = table.class_objects
    means = ratio(sums[..., IOU], sums[..., NUMBER])
    of_classes = [
        [
            display_name(table.class_names[k]),
            *(f"{share(means[k, place])} ({int(sums[k, place, NUMBER]):,})" for place in range(len(SIZES))),
        ]
        for k in worst_classes_first(analysis.summary)
    ]
    text = (
        "An object is a connected part of a class in a mask, such as a car, or a part of the sky between two trees. "
        "The sizes are COCO's, 32² and 96² pixels, as shares of an image of 640×480. The IoU of an object is with the "
        "connected part of the prediction that fits best; it is found if that is 0.5 or more."
    )
    return {
        "text": text,
        "head": ["size", "objects", "found", "mean recall of pixels", "mean IoU"],
        "rows": rows,
        "class_head": ["class", *SIZES],
        "classes": of_classes,
    }


def comparisons(
    rows: Sequence[tuple[str, SceneAnalysis, SceneComparison | None]], notes: Sequence[str]
) -> Section | None:
    """Return the comparisons with the first model; None if it is the only one.

    Args:
        rows: Name, evaluation and comparison of each model; None for the first.
        notes: What else is to be known about the others, in sentences.
    """
    if len(rows) < 2:
        return None
    cells, images = [], []
    for name, analysis, comparison in rows:
        row = [printable(name)]
        for metric in ("mIoU", "mAcc", "aAcc"):
            row.append(share(analysis.summary.metrics[metric].value))
            row.append(DASH if comparison is None else _change(comparison.metrics[metric]))
        cells.append(row)
        if comparison is not None:
            images += _changed_images(rows[0][1], analysis, comparison, printable(name))
    first, *others = rows
    class_rows = []
    for k in worst_classes_first(first[1].summary):
        row = [display_name(first[1].table.class_names[k]), share(first[1].summary.classes[k].iou.value)]
        for _, analysis, comparison in others:
            assert comparison is not None
            row += [share(analysis.summary.classes[k].iou.value), _change(comparison.classes[k])]
        class_rows.append(row)
    numbers = range(2, len(rows) + 1)
    note = "Differences are paired: all models are evaluated on the same bootstrap samples."
    return {
        "head": ["model", "mIoU", "difference", "mAcc", "difference", "aAcc", "difference"],
        "rows": cells,
        "note": " ".join([note, *notes]),
        "class_head": ["class", "first model", *(text for n in numbers for text in (f"model {n}", "difference"))],
        "classes": class_rows,
        "images": images,
    }


def _changed_images(
    first: SceneAnalysis, other: SceneAnalysis, comparison: SceneComparison, name: str
) -> list[Section]:
    """Return the images of which a model is better or worse than the first one, in two tables."""
    gains, tables = comparison.gains, []
    order = [index for index in np.argsort(gains, kind="stable").tolist() if np.isfinite(gains[index])]
    for title, chosen in (
        (f"Images that {name} segments better", [i for i in order[::-1] if gains[i] > 0][:_CHANGED]),
        (f"Images that {name} segments worse", [i for i in order if gains[i] < 0][:_CHANGED]),
    ):
        if chosen:
            rows = [
                [
                    printable(first.table.paths[i]),
                    share(first.table.mean_iou[i]),
                    share(other.table.mean_iou[i]),
                    f"{gains[i]:+.3f}",
                ]
                for i in chosen
            ]
            tables.append({"title": title, "head": ["image", "first model", "this model", "difference"], "rows": rows})
    return tables


def _change(metric: Metric) -> str:
    if not np.isfinite(metric.value):
        return DASH
    has_interval = np.isfinite(metric.low) and np.isfinite(metric.high)
    return f"{metric.value:+.3f}" + (f" ({metric.low:+.3f} to {metric.high:+.3f})" if has_interval else "")


def _percent(value: float) -> str:
    percent = 100 * value
    return "" if not percent else "<0.1" if percent < _LEAST_PERCENT else f"{percent:.1f}"
