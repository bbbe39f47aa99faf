"""The tables of an evaluation's page, with their texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.reports.evaluation.analysis import Analysis, SingleLabelDetails
from inceptionnext_lit.reports.evaluation.metrics import LINEARIZED, Metric, Summary
from inceptionnext_lit.reports.evaluation.record import Context, worst_first
from inceptionnext_lit.wording import count, printable

DASH = "–"
_NAMES = {
    "acc1": "top-1 accuracy",
    "acc5": "top-5 accuracy",
    "macro_acc": "macro accuracy (mean recall)",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss (nats)",
    "auroc": "AUROC (one against rest, macro)",
    "mcc": "Matthews' correlation (MCC)",
    "mAP": "mAP",
    "f1": "macro F1",
    "micro_f1": "micro F1",
    "subset_acc": "all labels right",
}
_WEIGHTS = {"raw": "raw weights", "ema": "averaged weights", "": "predictions"}
_PAIRS = 20
_SLICES = 100
_UNREADABLE = 50
Section = dict[str, Any]


def data(analysis: Analysis, context: Context) -> Section:
    """Return the description of the images, and those that could not be evaluated."""
    support = analysis.summary.classes.support
    names = analysis.table.class_names
    few, most = int(support.argmin()), int(support.argmax())
    word = "label" if analysis.table.multi_label else "class"
    images = count(int(support[few]), "image")
    paragraph = f"{count(len(analysis.table), 'image')} evaluated, {images} of each {word}."
    empty = int((support == 0).sum())
    if support[few] < support[most]:
        paragraph = (
            f"{count(len(analysis.table), 'image')} evaluated. The {word} with the fewest images is "
            f"{display_name(names[few])} with {images}, the one with the most {display_name(names[most])} with "
            f"{int(support[most]):,}."
        )
    if 0 < empty < len(names):
        paragraph = (
            f"{count(len(analysis.table), 'image')} evaluated, most of {display_name(names[most])} "
            f"({int(support[most]):,}). Without images: {empty:,} of "
            f"{count(len(names), word, 'labels' if word == 'label' else 'classes')}."
        )
    return {"description": [printable(line) for line in context.data], "paragraph": paragraph} | unreadable_images(
        context
    )


def unreadable_images(context: Context) -> Section:
    """Return the images that could not be evaluated."""
    unreadable = [{"path": printable(path), "reason": reason} for path, reason in context.unreadable[:_UNREADABLE]]
    left = len(context.unreadable) - len(unreadable)
    text = f"Not counted, since they could not be evaluated: {count(len(context.unreadable), 'image')}"
    return {"unreadable": unreadable, "unreadable_text": f"{text}{f'; the first {_UNREADABLE}' if left else ''}:"}


def metrics(analysis: Analysis) -> Section:
    """Return the metrics over all images of each set of weights."""
    sets = {**analysis.other_weights, analysis.weights: analysis.summary}
    rows = [
        [_NAMES[name], *(with_interval(summary.metrics[name]) for summary in sets.values())]
        for name in analysis.summary.metrics
    ]
    bootstrap = analysis.bootstrap
    unit = "images" if analysis.table.groups is None else "groups of images"
    note = f"Intervals: {bootstrap.resamples:,} bootstrap samples of {unit}, seed {bootstrap.seed}"
    if analysis.summary.auroc_intervals == LINEARIZED:
        note += "; AUROC's to first order in the images' weights"
    note += "."
    if len(sets) > 1:
        note += f" predict uses the {_WEIGHTS[analysis.weights]}; the rest of this page is about them."
    if not analysis.table.multi_label:
        note += " F1 also counts classes that were predicted without having images, as scikit-learn does."
    if few := int((analysis.summary.classes.support < 2).sum()):
        note += f" {count(few, 'class has', 'classes have')} fewer than two images, so intervals of means over classes "
        note += "are too narrow."
    return {"head": ["", *(_WEIGHTS[name] for name in sets)], "rows": rows, "note": note}


def classes(analysis: Analysis) -> Section:
    """Return the metrics of each class, worst first."""
    table, found = analysis.table, analysis.summary.classes
    single = isinstance(analysis.details, SingleLabelDetails)
    head = ["label" if table.multi_label else "class", "images", "precision", "recall", "95% interval", "F1", "AUROC"]
    head += ["most confused with"] if single else ["average precision"]
    rows = []
    for k in worst_first(found):
        of_recall = interval(found.recall_low[k], found.recall_high[k])
        marked = of_recall if found.support[k] > 1 else f"{DASH} *"
        row = [display_name(table.class_names[k]), f"{int(found.support[k]):,}", *map(share, (found.precision[k],))]
        row += [share(found.recall[k]), marked, share(found.f1[k]), share(found.auroc[k])]
        if isinstance(analysis.details, SingleLabelDetails):
            other = analysis.details.confusion.most_confused(k)
            row.append(DASH if other is None else f"{display_name(table.class_names[other[0]])} ({other[1]:,})")
        else:
            row.append(share(found.average_precision[k]))
        rows.append(row)
    note = "Worst F1 first. The interval is the recall's"
    note += ", Wilson's." if table.groups is None else "."
    if (found.support < 2).any():
        note += " * fewer than two images: no interval."
    return {"caption": "Metrics of each class against the rest", "head": head, "rows": rows, "note": note}


def confusion(analysis: Analysis) -> Section | None:
    """Return the confusion matrix, or its most confused part."""
    if not isinstance(analysis.details, SingleLabelDetails):
        return None
    found, names = analysis.details.confusion, [display_name(name) for name in analysis.table.class_names]
    shown = found.shown
    totals = found.matrix.sum(axis=1)
    rows = []
    for i in shown:
        cells = [_cell(int(found.matrix[i, j]), int(totals[i]), right=i == j) for j in shown]
        rows.append({"name": names[i], "cells": cells})
    note = ""
    if len(shown) < len(names):
        note = (
            f"The {len(shown)} of {len(names):,} classes with the most confusions, ordered so that classes confused "
            "with each other are neighbors. report.json and confusion.csv have the whole matrix."
        )
    pairs = [
        [names[true], names[predicted], f"{number:,}", share(number / totals[true])]
        for true, predicted, number in found.pairs(_PAIRS)
    ]
    return {
        "note": note,
        "caption": "Number of images: rows are true classes, columns predicted ones; the diagonal is right",
        "columns": [names[i] for i in shown],
        "rows": rows,
        "pairs": pairs,
        "pairs_caption": "The most frequent confusions",
        "pairs_head": ["true class", "predicted", "images", "share of the class"],
    }


def slices(analysis: Analysis) -> Section | None:
    """Return the accuracy on parts of the images, worst first."""
    if not analysis.slices:
        return None
    rows = [
        [
            printable(f"{one.column}: {one.value}"),
            f"{one.images:,}",
            share(one.accuracy),
            interval(one.low, one.high) if one.images > 1 else f"{DASH} *",
        ]
        for one in analysis.slices[:_SLICES]
    ]
    text = "Accuracy by split, group, folder, size, aspect ratio, brightness and further columns of a manifest."
    if any(one.images < 2 for one in analysis.slices[:_SLICES]):
        text += " * fewer than two images: no interval."
    what = "share of labels right" if analysis.table.multi_label else "top-1 accuracy"
    head = ["part", "images", what, "95% interval"]
    return {"text": text, "caption": "Worst first", "head": head, "rows": rows}


def _cell(number: int, total: int, *, right: bool) -> dict[str, str]:
    return {"text": f"{number:,}" if number else "", "shade": shade(number / total if total else 0.0, right=right)}


def shade(share: float, *, right: bool) -> str:
    """Return the style of a cell of a confusion matrix.

    Args:
        share: Its share of the true class.
        right: Whether it is on the diagonal.
    """
    level = 0 if not share else 3 if share >= 0.5 else 2 if share >= 0.1 else 1
    return f"{'r' if right else 'w'}{level}" if level else ""


def with_interval(metric: Metric) -> str:
    """Return a metric with four digits and its interval, or dashes where they are undefined."""
    value = DASH if not np.isfinite(metric.value) else f"{metric.value:.4f}"
    return f"{value} ({interval(metric.low, metric.high, 4)})"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return the ends of an interval, or a dash if one is undefined."""
    return f"{low:.{digits}f} to {high:.{digits}f}" if np.isfinite(low) and np.isfinite(high) else DASH


def share(value: float) -> str:
    """Return a share with three digits, or a dash if it is undefined."""
    return f"{value:.3f}" if np.isfinite(value) else DASH


def comparison_rows(rows: Sequence[tuple[str, Summary, Any]]) -> Section:
    """Return the comparisons with the first model.

    Args:
        rows: Name, metrics and comparison of each model; None for the first.
    """
    accuracy = next(iter({"acc1", "subset_acc"} & rows[0][1].metrics.keys()))
    cells = []
    for name, summary, comparison in rows:
        own = [printable(name), with_interval(summary.metrics[accuracy])]
        if comparison is None:
            cells.append([*own, DASH, DASH, DASH, DASH])
            continue
        change = f"{comparison.difference:+.4f} ({comparison.low:+.4f} to {comparison.high:+.4f})"
        counts = [f"{len(comparison.only_first):,}", f"{len(comparison.only_second):,}"]
        cells.append([*own, change, *counts, f"{comparison.p_value:.3g}"])
    head = ["model", _NAMES[accuracy], "difference", "only the first right", "only this one right", "McNemar's p"]
    note = "Differences are paired: both models are evaluated on the same bootstrap samples."
    return {"head": head, "rows": cells, "note": note}
