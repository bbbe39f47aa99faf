"""The charts of an evaluation's page, with their texts and tables."""

import numpy as np

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.reports.evaluation.analysis import Analysis, MultiLabelDetails, SingleLabelDetails
from inceptionnext_lit.reports.evaluation.calibration import Calibration
from inceptionnext_lit.reports.evaluation.charts import Bars, Line, chart
from inceptionnext_lit.reports.evaluation.multi_label import precision_recall
from inceptionnext_lit.reports.evaluation.record import worst_first
from inceptionnext_lit.reports.evaluation.sections import DASH, Section, share
from inceptionnext_lit.wording import count

_CURVES = 6  # labels with a precision-recall curve
_EPOCHS = 10
_FEW = 100  # images to fit a temperature on


def labels(analysis: Analysis) -> Section | None:
    """Return thresholds, precision-recall curves and errors that co-occur, if images may have several labels."""
    details, table = analysis.details, analysis.table
    if not isinstance(details, MultiLabelDetails):
        return None
    names = [display_name(name) for name in table.class_names]
    chosen, rows = details.thresholds, []
    for k, name in enumerate(names):
        together = details.errors_together[k].copy()
        together[k] = 0
        other = int(together.argmax()) if len(names) > 1 else k
        shared = f"{names[other]} ({together[other]:,})" if together[other] else DASH
        of_half = (DASH,) * 3
        if chosen is not None:
            of_half = (f"{chosen.values[k]:.3f}", share(chosen.f1_at_half[k]), share(chosen.f1[k]))
        rows.append([name, *of_half, shared])
    text = "Too few images to choose thresholds."
    if chosen is not None:
        text = (
            f"Thresholds that maximize F1 on {count(chosen.chosen_on, 'image')}, a random half; on the other half, "
            f"macro F1 is {share(chosen.f1_at_half.mean())} at 0.5 and {share(chosen.f1.mean())} with them."
        )
    worst = worst_first(analysis.summary.classes)[:_CURVES]
    curves = []
    for k in worst:
        recall, precision = precision_recall(table, k)
        points = list(zip(recall.tolist(), precision.tolist(), strict=True))
        svg = chart(
            Line("", points),
            title=f"Precision against recall of {names[k]}",
            x_label="recall",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1),
        )
        average = share(analysis.summary.classes.average_precision[k])
        curves.append({"svg": svg, "caption": f"{names[k]}: average precision {average}"})
    head = ["label", "threshold", "F1 at 0.5", "F1 with it", "errors together with"]
    return {"text": text, "head": head, "rows": rows, "charts": curves}


def calibration(analysis: Analysis) -> Section:
    """Return the reliability diagrams before and after temperature scaling."""
    scaling = analysis.scaling
    sets = [("all images, as they are", analysis.calibration)]
    text = "Too few images to fit a temperature."
    if scaling is not None:
        apart = (
            f"fitted on {count(scaling.fitted_on, 'image')}, a random half, and measured on the other"
            if scaling.source == "half"
            else "measured on each fold with the temperature of the other folds"
        )
        verdict = "too confident" if scaling.temperature > 1 else "not confident enough"
        text = f"Temperature {scaling.temperature:.3f}, {apart}: the model is {verdict}."
        if scaling.fitted_on < _FEW:
            text += " That is few images; the temperature may be off."
        sets += [
            ("measured images without the temperature", scaling.before),
            ("measured images with the temperature", scaling.after),
        ]
    charts = [
        {"svg": _reliability(found, name), "caption": f"{name[0].upper()}{name[1:]}: ECE {found.ece:.4f}"}
        for name, found in (sets[:1] if scaling is None else sets[1:])
    ]
    rows = [[name, f"{of.ece:.4f}", f"{of.brier:.4f}", f"{of.log_loss:.4f}"] for name, of in sets]
    bins = [
        [f"{one.low:.3f} to {one.high:.3f}", f"{one.images:,}", share(one.confidence), share(one.accuracy)]
        for one in analysis.calibration.bins
    ]
    return {
        "text": text,
        "charts": charts,
        "head": ["", "ECE (15 bins)", "Brier score", "log loss"],
        "rows": rows,
        "bins_head": ["confidence", "images", "mean confidence", "accuracy"],
        "bins": bins,
    }


def coverage(analysis: Analysis) -> Section | None:
    """Return the accuracy against the share of images answered."""
    if not isinstance(analysis.details, SingleLabelDetails):
        return None
    found = analysis.details.coverage
    kept = np.unique(np.linspace(0, len(found.coverage) - 1, 201).astype(int))
    points = list(zip(found.coverage[kept].tolist(), found.accuracy[kept].tolist(), strict=True))
    low = min(y for _, y in points)
    svg = chart(
        Line("", points),
        title="Accuracy against coverage",
        x_label="share of images answered",
        y_label="accuracy on them",
        x_range=(0, 1),
        y_range=(np.floor(10 * min(low, 0.9)) / 10, 1),
    )
    rows = []
    for accuracy, reached in found.thresholds.items():
        cells = ["never reached", DASH] if reached is None else [f"{reached[0]:.4f}", share(reached[1])]
        rows.append([f"{accuracy:.0%}", *cells])
    text = (
        "If only images are answered whose most probable class has at least a threshold, accuracy rises. "
        "predict --unsure_below THRESHOLD marks the others as unsure."
    )
    caption = "Most confident images first"
    head = ["accuracy", "threshold", "share of images answered"]
    return {"text": text, "svg": svg, "caption": caption, "head": head, "rows": rows}


def curves(logged: dict[str, list[tuple[float, float]]]) -> tuple[list[Section], Section | None]:
    """Return charts of a run's losses and other metrics, and a table of the last epochs."""
    logged = {name: [(epoch + 1, value) for epoch, value in points] for name, points in logged.items()}
    charts = []
    by_metric: dict[str, list[str]] = {}
    for name in logged:
        by_metric.setdefault(name.partition("/")[2], []).append(name)
    for metric, names in by_metric.items():
        lines = [Line(name, logged[name], "abcd"[place % 4]) for place, name in enumerate(names)]
        svg = chart(*lines, title=f"{metric} by epoch", x_label="epoch", y_label=metric, whole_x=True)
        charts.append({"svg": svg, "caption": f"{metric} by epoch"})
    epochs = sorted({x for points in logged.values() for x, _ in points})[-_EPOCHS:]
    values = {name: dict(points) for name, points in logged.items()}
    rows = [
        [f"{epoch:g}", *(f"{of[epoch]:.4f}" if epoch in of else DASH for of in values.values())] for epoch in epochs
    ]
    return charts, {"head": ["epoch", *logged], "rows": rows} if rows else None


def _reliability(found: Calibration, name: str) -> str:
    bars = [(one.low, one.high, one.accuracy) for one in found.bins if one.images]
    points = [(one.confidence, one.accuracy) for one in found.bins if one.images]
    return chart(
        Bars(bars),
        Line("", [(0, 0), (1, 1)], "guide"),
        Line("", points, "b", marks=True),
        title=f"Accuracy against confidence, {name}",
        x_label="confidence",
        y_label="accuracy",
        x_range=(0, 1),
        y_range=(0, 1),
    )
