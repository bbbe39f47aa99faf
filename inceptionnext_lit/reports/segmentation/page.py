"""An evaluation of a segmentation model as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from inceptionnext_lit.data.class_words import display_name
from inceptionnext_lit.data.masks.overlay import IGNORED_COLOR
from inceptionnext_lit.reports.evaluation import chart_sections
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.evaluation.templates import render
from inceptionnext_lit.reports.segmentation import sections
from inceptionnext_lit.reports.segmentation.analysis import SceneAnalysis
from inceptionnext_lit.reports.segmentation.metrics import SceneComparison
from inceptionnext_lit.reports.segmentation.pictures import ScenePictures
from inceptionnext_lit.reports.segmentation.record import image_record
from inceptionnext_lit.reports.segmentation.table import SceneTable
from inceptionnext_lit.wording import count, printable

SHOWN = 24
"""Number of the worst images with pictures."""

_CONTENTS = {
    "data": "Data",
    "metrics": "Metrics",
    "comparisons": "Comparison",
    "curves": "Curves of the run",
    "classes": "Classes",
    "confusion": "Confusion",
    "objects": "Objects by size",
    "worst": "Worst images",
}
_TITLES = {"image": "image", "mask": "mask", "prediction": "prediction", "difference": "wrong pixels striped"}


@dataclass(frozen=True)
class ComparedScenes:
    """A further model on the page.

    Attributes:
        name: Its name.
        analysis: Its evaluation.
        comparison: How it compares with the first.
        notes: What else is to be known about its images, in sentences.
    """

    name: str
    analysis: SceneAnalysis
    comparison: SceneComparison
    notes: tuple[str, ...] = ()


def render_scene_page(
    analysis: SceneAnalysis,
    context: Context,
    pictures: Mapping[int, ScenePictures],
    others: Sequence[ComparedScenes] = (),
) -> str:
    """Render an evaluation as HTML that needs no other file and no network.

    Args:
        analysis: The evaluation.
        context: Where it comes from.
        pictures: Pictures of images by their index.
        others: Further models on the same images.
    """
    charts, last_epochs = chart_sections.curves(dict(context.curves))
    rows: list[tuple[str, SceneAnalysis, SceneComparison | None]] = [(context.source, analysis, None)]
    rows += [(one.name, one.analysis, one.comparison) for one in others]
    content: dict[str, Any] = {
        "title": f"Evaluation of {printable(context.model.get('name') or context.source)}",
        "data": sections.data(analysis, context),
        "metrics": sections.metrics(analysis),
        "comparisons": sections.comparisons(rows, [note for one in others for note in _notes(one)]),
        "curves": charts,
        "curve_table": last_epochs,
        "classes": sections.classes(analysis),
        "confusion": sections.confusion(analysis),
        "objects": sections.objects(analysis),
        "worst": _worst(analysis, pictures),
        "cost": [[printable(str(key)), printable(str(value))] for key, value in context.cost.items()],
        "command": printable(context.command),
        "config": yaml.safe_dump(dict(context.model.get("arguments") or {}), sort_keys=False),
        "versions": [list(pair) for pair in context.versions.items()],
    }
    ids = {"comparisons": "comparison"}
    there = [(ids.get(key, key), name) for key, name in _CONTENTS.items() if content[key]]
    content["sections"] = [*there, ("cost", "Cost and how to repeat")]
    return render("page.segmentation.j2", content)


def _notes(one: ComparedScenes) -> list[str]:
    return [f"{printable(one.name)}: {printable(note)}" for note in one.notes]


def _worst(analysis: SceneAnalysis, pictures: Mapping[int, ScenePictures]) -> dict[str, Any]:
    table = analysis.table
    scenes = [_scene(table, index, drawn) for index, drawn in pictures.items()]
    text = (
        f"{count(len(scenes), 'image')} of {len(table):,}, the lowest mean IoU first. In the last picture of each, "
        "wrong pixels have red stripes, right ones are dark, and ignored ones white. The colors of the classes:"
    )
    names = [*map(display_name, table.class_names), "ignored"]
    colors = [*(list(map(int, color)) for color in analysis.palette), list(IGNORED_COLOR)]
    key = [{"name": name, "color": color} for name, color in zip(names, colors, strict=True)]
    return {"text": text, "key": key, "scenes": scenes}


def _scene(table: SceneTable, index: int, drawn: ScenePictures) -> dict[str, Any]:
    about, path = image_record(table, index), Path(table.paths[index])
    text = f"mean IoU {about['mIoU']:.3f}, {about['accuracy']:.3f} of the pixels right, worst class "
    text += f"{display_name(about['worst_class'])} (IoU {about['worst_class_IoU']:.3f})"
    return {
        "name": printable(path.name),
        "link": quote(str(path.absolute()), safe="/:", encoding="utf-8", errors="surrogateescape"),
        "text": text,
        "pictures": [{"source": getattr(drawn, key), "title": title} for key, title in _TITLES.items()],
    }
