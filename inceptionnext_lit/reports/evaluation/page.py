"""An evaluation as one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.data.decode.thumbnail import thumbnail
from inceptionnext_lit.reports.evaluation import chart_sections, sections
from inceptionnext_lit.reports.evaluation.analysis import Analysis, SingleLabelDetails
from inceptionnext_lit.reports.evaluation.comparison import Comparison
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from inceptionnext_lit.reports.evaluation.templates import render
from inceptionnext_lit.wording import count, printable

_SIDE = 112  # pixels of a thumbnail
_SHEET, _SHEET_EACH = 60, 3  # images in the contact sheet, at most, and of each class
_WRONG, _UNSURE, _SUSPECTED, _COMPARED = 48, 16, 32, 12  # images in the other lists


@dataclass(frozen=True)
class Compared:
    """A further model on the page.

    Attributes:
        name: Its name.
        analysis: Its evaluation.
        comparison: How it compares with the first.
        notes: What else is to be known about its images, in sentences.
    """

    name: str
    analysis: Analysis
    comparison: Comparison
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """A heat map over an image.

    Attributes:
        index: The image.
        picture: The picture as a ``data:`` URL.
        text: What it shows.
        remark: What a map without a pattern is, such as ``no evidence``; empty otherwise.
    """

    index: int
    picture: str
    text: str
    remark: str = ""


def render_page(
    analysis: Analysis,
    context: Context,
    folder: Path,
    *,
    others: Sequence[Compared] = (),
    explained: Sequence[Explained] = (),
) -> str:
    """Render an evaluation as HTML that needs no other file and no network.

    Args:
        analysis: The evaluation.
        context: Where it comes from.
        folder: Folder of the page, which links to images are relative to.
        others: Further models on the same images.
        explained: Heat maps to show.
    """
    pictures = _Pictures(analysis.table, folder)
    charts, last_epochs = chart_sections.curves(dict(context.curves))
    single = isinstance(analysis.details, SingleLabelDetails)
    content: dict[str, Any] = {
        "title": f"Evaluation of {printable(context.model.get('name') or context.source)}",
        "data": sections.data(analysis, context),
        "sheet": [one for one in pictures.items(_sheet(analysis.table), _class_line) if one["picture"]],
        "metrics": sections.metrics(analysis),
        "comparisons": _comparisons(analysis, context, others, pictures),
        "curves": charts,
        "curve_table": last_epochs,
        "words": {"classes": "Classes" if single else "Labels"},
        "classes": sections.classes(analysis),
        "confusion": sections.confusion(analysis),
        "labels": chart_sections.labels(analysis),
        "calibration": chart_sections.calibration(analysis),
        "coverage": chart_sections.coverage(analysis),
        "mistakes": _mistakes(analysis, pictures),
        "label_errors": _label_errors(analysis, pictures),
        "slices": sections.slices(analysis),
        "explanations": _explanations(explained, pictures),
        "cost": [[printable(str(key)), printable(str(value))] for key, value in context.cost.items()],
        "command": printable(context.command),
        "config": yaml.safe_dump(dict(context.model.get("arguments") or {}), sort_keys=False) if context.model else "",
        "versions": [list(pair) for pair in context.versions.items()],
    }
    content["pictures_note"] = pictures.note()
    content["sections"] = _contents(content)
    return render("page.html.j2", content)


_CONTENTS = {
    "data": "Data",
    "metrics": "Metrics",
    "comparisons": "Comparison",
    "curves": "Curves of the run",
    "classes": "Classes",
    "confusion": "Confusion",
    "labels": "Thresholds and curves per label",
    "calibration": "Calibration",
    "coverage": "Coverage",
    "mistakes": "Mistakes",
    "label_errors": "Suspected label errors",
    "slices": "Parts of the images",
    "explanations": "Explanations",
}


def _contents(content: dict[str, Any]) -> list[tuple[str, str]]:
    ids = {"comparisons": "comparison", "label_errors": "label-errors"}
    there = [(ids.get(key, key), name) for key, name in _CONTENTS.items() if content[key]]
    names = {"classes": content["words"]["classes"]}
    return [*((key, names.get(key, name)) for key, name in there), ("cost", "Cost and how to repeat")]


def _sheet(table: PredictionTable) -> list[int]:
    """Return the first images of each class, at most 60."""
    chosen: list[int] = []
    classes = len(table.class_names)
    each = max(1, min(_SHEET_EACH, _SHEET // classes))
    for k in range(min(classes, _SHEET)):
        members = np.flatnonzero(table.labels[:, k] if table.multi_label else table.labels == k)[:each]
        chosen += [index for index in members.tolist() if index not in chosen]
    return chosen


def _mistakes(analysis: Analysis, pictures: "_Pictures") -> dict[str, Any]:
    table = analysis.table
    wrong = analysis.mistakes[:_WRONG].tolist()
    text = f"Wrong predictions: {len(analysis.mistakes):,} of {len(table):,}"
    if wrong:
        text += f"; {len(wrong)} are shown, {'the highest loss' if table.multi_label else 'the most confident'} first"
    return {
        "text": f"{text}.",
        "wrong": pictures.items(wrong, _prediction_lines),
        "unsure": pictures.items(analysis.unsure[:_UNSURE].tolist(), _prediction_lines),
    }


def _label_errors(analysis: Analysis, pictures: "_Pictures") -> dict[str, Any] | None:
    if not isinstance(analysis.details, SingleLabelDetails):
        return None
    found = analysis.details.label_errors
    names = analysis.table.class_names
    suggested = dict(zip(found.images.tolist(), found.suggested.tolist(), strict=True))
    if not len(found.images):
        return None
    text = (
        f"{count(len(found.images), 'label')} may be wrong, by confident learning (Northcutt et al., 2021): another "
        "class is more probable than it usually is for its own images. They are "
        "ranked by the probability of their label, lowest first. "
        "Predictions of models that have not seen the images find more: those of cross_validate."
    )

    def lines(table: PredictionTable, index: int) -> list[str]:
        own = table.probabilities[index, table.labels[index]]
        label = f"labeled {display_name(names[int(table.labels[index])])} ({own:.3f})"
        return [label, f"perhaps {display_name(names[suggested[index]])}"]

    return {"text": text, "pictures": pictures.items(found.images[:_SUSPECTED].tolist(), lines)}


def _explanations(explained: Sequence[Explained], pictures: "_Pictures") -> dict[str, Any] | None:
    if not explained:
        return None
    items = []
    for one in explained:
        [item] = pictures.items([one.index], _prediction_lines, picture=one.picture)
        remark = [f"heat map: {one.remark}"] if one.remark else []
        items.append(item | {"alt": one.text, "lines": [*item["lines"], *remark]})
    return {"text": explained[0].text, "pictures": items}


def _comparisons(
    analysis: Analysis, context: Context, others: Sequence[Compared], pictures: "_Pictures"
) -> dict[str, Any] | None:
    if not others:
        return None
    rows: list[tuple[str, Any, Any]] = [(context.source, analysis.summary, None)]
    rows += [(one.name, one.analysis.summary, one.comparison) for one in others]
    images = []
    for one in others:
        table = one.analysis.table
        for title, found in (
            (f"Only {context.source} is right", one.comparison.only_first),
            (f"Only {one.name} is right", one.comparison.only_second),
        ):

            def lines(first: PredictionTable, index: int, second: PredictionTable = table) -> list[str]:
                return [
                    f"true: {_class_line(first, index)[0]}",
                    f"first: {_predicted(first, index)}",
                    f"this: {_predicted(second, index)}",
                ]

            if len(found):
                shown = found[:_COMPARED].tolist()
                images.append({"title": printable(title), "pictures": pictures.items(shown, lines)})
    found_rows = sections.comparison_rows(rows)
    notes = [f"{printable(one.name)}: {printable(note)}" for one in others for note in one.notes]
    return found_rows | {"note": " ".join([found_rows["note"], *notes]), "images": images}


def _class_line(table: PredictionTable, index: int) -> list[str]:
    labels = np.flatnonzero(table.labels[index]).tolist() if table.multi_label else [int(table.labels[index])]
    return [", ".join(display_name(table.class_names[k]) for k in labels) or "no label"]


def _prediction_lines(table: PredictionTable, index: int) -> list[str]:
    if table.multi_label:
        return [f"true: {_class_line(table, index)[0]}", f"predicted: {_predicted(table, index)}"]
    own = table.probabilities[index, table.labels[index]]
    predicted = f"{_predicted(table, index)} ({table.confidences[index]:.3f})"
    return [f"true: {_class_line(table, index)[0]} ({own:.3f})", f"predicted: {predicted}"]


def _predicted(table: PredictionTable, index: int) -> str:
    chosen = np.flatnonzero(table.present[index]).tolist() if table.multi_label else [int(table.predicted[index])]
    return ", ".join(display_name(table.class_names[k]) for k in chosen) or "no label"


class _Pictures:
    """Thumbnails of a table's images, each made once."""

    def __init__(self, table: PredictionTable, folder: Path) -> None:
        self._table = table
        self._folder = folder
        self._made: dict[int, str | None] = {}

    def items(self, indices: Sequence[int], lines: Any, picture: str | None = None) -> list[dict[str, Any]]:
        """Return the images with their texts."""
        items = []
        for index in indices:
            path = self._table.paths[index]
            if picture is None and index not in self._made:
                self._made[index] = thumbnail(path, _SIDE)
            texts = lines(self._table, index)
            name = printable(Path(path).name)
            items.append(
                {
                    "picture": picture or self._made[index],
                    "link": quote(str(Path(path).absolute()), safe="/:", encoding="utf-8", errors="surrogateescape"),
                    "alt": f"{name}: {', '.join(texts)}",
                    "lines": [*texts, name],
                }
            )
        return items

    def note(self) -> str:
        """Describe how many pictures the page has."""
        shown = sum(made is not None for made in self._made.values())
        missing = len(self._made) - shown
        text = f"This page shows {count(shown, 'thumbnail')} of {count(len(self._table), 'image')}"
        return f"{text}; {count(missing, 'file')} could not be shown." if missing else f"{text}."
