"""What ``explain`` computes and draws."""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from inceptionnext_lit.cli.explain.models import Model
from inceptionnext_lit.cli.explain.output import MOST_ROWS, saving
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain.attribution import Explanation, Method, explain
from inceptionnext_lit.reports.explain.figure import (
    Row,
    as_picture,
    as_thumbnail,
    draw_grid,
    two_lines,
)
from inceptionnext_lit.reports.explain.measure import measure, read_images, unreadable_reason
from inceptionnext_lit.reports.explain.overlay import Picture, overlay
from inceptionnext_lit.reports.explain.regions import RegionExplanation, explain_class
from inceptionnext_lit.reports.explain.spectrum_figure import draw_fields, draw_spectra, record_of, table_of
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.wording import count, distinct_ends, listed, printable

Unreadable = list[tuple[str, str]]


@dataclass(frozen=True)
class Column:
    """A model with what is explained of it.

    Attributes:
        model: The model.
        target: Index of the class; None for the predicted one.
        layer: The layer of the map; None for methods without one.
    """

    model: Model
    target: int | None
    layer: str | None

    @property
    def class_text(self) -> str:
        """The class in words."""
        return "the predicted class" if self.target is None else self.model.class_title(self.target)

    @property
    def title(self) -> str:
        """The lines above the column: the model, its weights and the layer."""
        return "\n".join([two_lines(self.model.title), *([self.layer] if self.layer else [])])


def draw_maps(
    options: argparse.Namespace,
    models: Sequence[Model],
    paths: Sequence[str],
    files: Sequence[Path],
    written: list[Path],
) -> Unreadable:
    """Draw heat maps of images, and print what the models predict.

    Args:
        options: The options of ``explain``.
        models: The models.
        paths: The images.
        files: The files to write: one per image if there are several, and the grid as the last one.
        written: Receives each file once it is written.

    Returns:
        The images that could not be read, with the reasons.

    Raises:
        UserError: If a class or layer does not exist, no image can be read, or a file cannot be written.
    """
    columns = _columns(options, models)
    footer = f"{options.method} for {', '.join(dict.fromkeys(column.class_text for column in columns))}"
    rows: list[Row] = []
    unreadable: Unreadable = []
    explained = 0
    with progress_bar() as bar:
        shown = bar.add_task("explaining", total=len(paths))
        for path, name, file in zip_longest(paths, map(printable, distinct_ends(paths)), files[:-1]):
            try:
                images = [model.read(path) for model in models]
            except UserError as error:
                unreadable.append((path, unreadable_reason(error)))
            else:
                row = _explain(options, columns, path, name, images)
                explained += 1
                rows = [*rows, row] if len(rows) < MOST_ROWS else rows
                if file is not None:
                    _draw([row], columns, file, footer, written)
            bar.advance(shown)
    if not rows:
        raise UserError(f"No image could be read. The first, {unreadable[0][0]}: {unreadable[0][1]}.")
    _draw(rows, columns, files[-1], footer, written)
    for file in written:
        print(f"Written to {printable(str(file))}")
    if explained > len(rows):
        print(f"{files[-1].name} shows the first {len(rows)} of {explained:,} images.")
    return unreadable


def _columns(options: argparse.Namespace, models: Sequence[Model]) -> list[Column]:
    """Find the class and the layer for each model before an image is read, and print them."""
    layers = options.layer or [None]
    shared = len(layers) < len(models)
    columns = []
    for model, layer in zip(models, layers * len(models) if shared else layers, strict=False):
        if options.target is None and isinstance(model.task, SegmentationTask):
            raise UserError(
                f"{model.title} is a segmentation model, which predicts a class for each pixel; give the class to "
                f"explain with --class: {listed([model.class_title(k) for k in range(model.task.num_classes)], 10)}."
            )
        target = None if options.target is None else model.class_index(options.target)
        columns.append(Column(model, target, model.find_layer(options.method, layer, shared=shared)))
    for column in columns:
        where = f", layer {column.layer}" if column.layer else ""
        print(f"{column.model.title}: {options.method} for {column.class_text}{where}")
    return columns


def _draw(rows: Sequence[Row], columns: Sequence[Column], file: Path, footer: str, written: list[Path]) -> None:
    with saving(file):
        draw_grid(rows, [column.title for column in columns], file, footer)
    written.append(file)


def _explain(
    options: argparse.Namespace, columns: Sequence[Column], path: str, name: str, images: Sequence[Tensor]
) -> Row:
    """Explain an image with all models, and print what they predict."""
    overlays, captions = [], []
    for column, pixels in zip(columns, images, strict=True):
        model = column.model
        with _naming(model):
            found = _explanation(column, pixels, options.method)
        overlays.append(overlay(as_picture(found.pixels), found.heat, options.alpha))
        lines = _prediction_lines(model, found)
        remark = f"; {found.remark}: {_reason(found, column.layer)}" if found.remark else ""
        joint = ", " if isinstance(found, RegionExplanation) else ", map "
        print(f"{printable(path)}: {model.title}: {joint.join(lines)}{remark}")
        captions.append("\n".join([*lines, *([found.remark] if found.remark else [])]))
    picture, was_cut = _whole(path, as_picture(images[0]))
    return Row(f"{name}\n(central part)" if was_cut else name, picture, overlays, captions)


def _explanation(column: Column, pixels: Tensor, method: Method) -> Explanation:
    task = column.model.task
    if isinstance(task, SegmentationTask):
        assert column.target is not None  # checked when it was given
        return explain_class(task, pixels, method, column.target, column.layer)
    return explain(task, pixels, method, column.target, column.layer)


def _prediction_lines(model: Model, found: Explanation) -> list[str]:
    """Return what is predicted, and of a segmentation model where."""
    title = model.class_title(found.target)
    if isinstance(found, RegionExplanation):
        where = f"{found.share:.1%} of the pixels" if found.share else "not predicted: all pixels"
        return [f"{title} {found.probability:.3f}", where]
    lines = [f"{model.class_title(found.predicted)} {found.predicted_probability:.3f}"]
    return lines if found.target == found.predicted else [*lines, f"for {title} {found.probability:.3f}"]


@contextmanager
def _naming(model: Model) -> Iterator[None]:
    """Begin an error about a model with its title."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{model.title}: {error}") from error


def _reason(found: Explanation, layer: str | None) -> str:
    """Return why a map has no pattern."""
    if found.heat.any():
        return "the map is the same everywhere"
    if found.depends:
        return f"nothing in {'the map of this layer' if layer else 'the image'} speaks for the class"
    if layer is None:
        return "the class does not depend on the image"
    return "the class does not depend on the map of this layer, but perhaps on its class token; give an earlier layer"


def _whole(path: str, otherwise: Picture) -> tuple[Picture, bool]:
    """Return an image and whether it was cut; of a file that is not a color picture, what the first model gets."""
    try:
        return as_thumbnail(load_image(path))
    except UserError:
        return otherwise, False


def draw_spectrum(
    options: argparse.Namespace,
    models: Sequence[Model],
    paths: Sequence[str],
    files: Sequence[Path],
    written: list[Path],
) -> Unreadable:
    """Draw the spectra and receptive fields of models, or write their numbers, and print a table.

    Args:
        options: The options of ``explain``.
        models: The models.
        paths: The images.
        files: The files of the figures, or the one of the numbers.
        written: Receives each file once it is written.

    Returns:
        The images that could not be read, with the reasons.

    Raises:
        UserError: If no image can be read, a network does not return its maps, or a file cannot be written.
    """
    classifiers = [model.classifier for model in models]
    measured, lost, used = [], dict[str, str](), 0
    with progress_bar() as bar:
        shown = bar.add_task("measuring", total=2 * len(models) * len(paths))
        for model, task in zip(models, classifiers, strict=True):
            images, unreadable = read_images(task, paths)
            with _naming(model):
                measured.append(measure(model.title, task, images, lambda done: bar.advance(shown, done)))
            lost |= dict(unreadable)
            used = len(images)
    print(f"{count(used, 'image')} from {printable(str(options.data_root))}")
    print(table_of(measured), end="")
    if len(files) == 1:
        with saving(files[0]), replacing(files[0]) as partial:
            partial.write_text(json.dumps(record_of(measured, used), indent=1), encoding="utf-8")
        written.append(files[0])
    else:
        for draw, file in zip((draw_spectra, draw_fields), files, strict=True):
            with saving(file):
                draw(measured, file)
            written.append(file)
    for file in files:
        print(f"Written to {printable(str(file))}")
    return list(lost.items())
