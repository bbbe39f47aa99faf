"""Evaluate segmentation models as the command line asks, and write the report."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from inceptionnext_lit.cli.evaluate.classifiers import bootstrap_of, metric_text, usable_device
from inceptionnext_lit.cli.evaluate.scene_candidates import SceneCandidate, load_scene_candidate, segments
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.evaluation_set import EvaluationSet, Run, evaluation_set
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.root import SceneRoot
from inceptionnext_lit.data.scenes import EvaluatedScenes
from inceptionnext_lit.data.transforms.segmentation import TestScale
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.cost import library_versions
from inceptionnext_lit.reports.evaluation.metrics import Metric
from inceptionnext_lit.reports.evaluation.predictions_file import default_suffix
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.segmentation.analysis import SceneAnalysis, analyze_scenes
from inceptionnext_lit.reports.segmentation.inference import examine, segment_images
from inceptionnext_lit.reports.segmentation.metrics import compare_scenes
from inceptionnext_lit.reports.segmentation.page import SHOWN, ComparedScenes, render_scene_page
from inceptionnext_lit.reports.segmentation.pictures import ScenePictures, draw_scene
from inceptionnext_lit.reports.segmentation.record import scene_comparison_record, scene_record
from inceptionnext_lit.reports.segmentation.writing import write_scene_report
from inceptionnext_lit.wording import printable

_OF_CLASSIFIERS = {
    "model_name": "--model.name",
    "model_pretrained": "--model.pretrained",
    "predictions": "--predictions",
    "common_classes": "--common_classes",
    "save_temperature": "--save_temperature",
    "save_thresholds": "--save_thresholds",
    "explain": "--explain",
    "method": "--method",
    "batch_size": "--data.batch_size",
    "path_column": "--data.manifest.path_column",
    "label_column": "--data.manifest.label_column",
}
_OF_MASKS = {field.name: f"--data.masks.{field.name}" for field in fields(MaskOptions)}


@dataclass(frozen=True)
class Evaluated:
    """A segmentation model with its evaluation.

    Attributes:
        analysis: The evaluation.
        context: Where it comes from.
        model: The model.
        scenes: The images with their masks.
    """

    analysis: SceneAnalysis
    context: Context
    model: SceneCandidate
    scenes: EvaluatedScenes


def evaluates_segmentation(options: argparse.Namespace) -> bool:
    """Return whether the command line names segmentation models, and check that it then fits them.

    Args:
        options: The options of ``evaluate``.

    Raises:
        UserError: If there are classifiers too, or an option is for the other kind of model.
    """
    paths = [Path(name).expanduser() for name in options.checkpoints]
    masks = [path for path in paths if segments(path)]
    if not masks:
        if given := [name for key, name in _OF_MASKS.items() if getattr(options, f"masks_{key}") is not None]:
            raise UserError(f"{given[0]} is for segmentation models, and none is evaluated; leave it out.")
        return False
    if others := [path for path in paths if path not in masks]:
        raise UserError(
            f"{masks[0]} is a segmentation model, and {others[0]} is not; evaluate segmentation models alone."
        )
    if given := [name for key, name in _OF_CLASSIFIERS.items() if getattr(options, key) not in (None, False)]:
        raise UserError(f"{given[0]} is for classifiers, and {masks[0]} is a segmentation model; leave it out.")
    return True


def evaluate_segmentation(options: argparse.Namespace, command: str) -> list[Evaluated]:
    """Evaluate all models on the same images.

    Args:
        options: The options of ``evaluate``.
        command: The command, to be repeated.

    Raises:
        UserError: If a model cannot be loaded or evaluated, or they have other classes or images.
    """
    device = usable_device(options.device)
    candidates = [
        load_scene_candidate(Path(name).expanduser(), device, options.max_pixels) for name in options.checkpoints
    ]
    evaluated: list[Evaluated] = []
    known = next((one.run for one in candidates if one.run.settings), Run())
    first: EvaluationSet | None = None
    for candidate in candidates:
        run = candidate.run if candidate.run.settings else known  # an exported file does not say what was held back
        root = _root(options, candidate, run)
        images = evaluation_set(root, candidate.class_names, options.split, run)
        images = images if run is candidate.run else images.without_training()
        images = images if first is None else images.in_order_of(first)
        first = first or images
        if evaluated:
            _check_same(options.checkpoints, candidate, evaluated[0], images)
        for line in images.description if not evaluated else images.description[1:]:
            print(f"Images:     {printable(line if not evaluated else f'{candidate.path}: {line}')}")
        for note in root.source.notes if not evaluated else ():
            print(f"Masks:      {printable(note)}")
        one = _evaluate_model(options, command, candidate, root, images)
        if evaluated and one.context.unreadable != evaluated[0].context.unreadable:
            raise UserError(
                f"{candidate.path} and {options.checkpoints[0]} cannot read the same images, so they cannot be "
                "compared; evaluate them one by one."
            )
        evaluated.append(one)
    return evaluated


def _evaluate_model(
    options: argparse.Namespace, command: str, candidate: SceneCandidate, root: SceneRoot, images: EvaluationSet
) -> Evaluated:
    source, samples = root.source, images.samples
    scale = TestScale(candidate.preprocessing, options.max_pixels)
    scale.keeps_size = candidate.takes_originals
    scenes = EvaluatedScenes(samples, source.masks(samples.paths), source.scheme, scale, options.max_pixels)
    with progress_bar() as bar:
        shown = bar.add_task("segmenting", total=len(samples))
        found = segment_images(
            candidate.predictor,
            images,
            scenes,
            num_workers=options.num_workers,
            tick=lambda done: bar.advance(shown, done),
        )
    cost = candidate.measure()
    cost["evaluated_images_per_second"] = round(len(samples) / found.seconds, 1)
    context = Context(
        tuple(f"{line.rstrip('.')}." for line in images.description),
        str(root.named),
        options.split,
        str(candidate.path),
        command,
        found.unreadable,
        candidate.record,
        cost,
        library_versions(),
        candidate.curves,
    )
    return Evaluated(analyze_scenes(found.tables, candidate.palette, bootstrap_of(options)), context, candidate, scenes)


def write_segmentation(options: argparse.Namespace, evaluated: Sequence[Evaluated]) -> list[Path]:
    """Print the metrics, and write the report.

    Args:
        options: The options of ``evaluate``.
        evaluated: The evaluations.

    Returns:
        The written files.

    Raises:
        UserError: If one cannot be written.
    """
    first, *others = evaluated
    record = scene_record(first.analysis, first.context)
    further: list[ComparedScenes] = []
    for one in others:
        comparison = compare_scenes(first.analysis.table, one.analysis.table, bootstrap_of(options))
        further.append(ComparedScenes(one.context.source, one.analysis, comparison, one.context.data[1:]))
        record.setdefault("comparisons", []).append(scene_comparison_record(one.analysis, one.context, comparison))
    page = render_scene_page(first.analysis, first.context, _pictures(first), further)
    suffix = default_suffix() if options.table is None else f".{options.table}"
    for name, metric in first.analysis.summary.metrics.items():
        print(f"{name:<12}{metric_text(metric)}")
    for other in further:
        own, change = other.analysis.summary.metrics["mIoU"], other.comparison.metrics["mIoU"]
        print(f"{printable(other.name)}: mIoU {metric_text(own)}, {_difference(change)}")
    return write_scene_report(options.output, [one.analysis for one in evaluated], record, page, suffix)


def _root(options: argparse.Namespace, candidate: SceneCandidate, run: Run) -> SceneRoot:
    preprocessing, settings = candidate.preprocessing, run.settings
    place = options.data_root or settings.get("data.root")
    if place is None:
        raise UserError("No images were named; give a folder with --data.root.")
    root = SceneRoot(
        place,
        len(preprocessing["mean"]),
        given_classes=candidate.class_names,
        masks=_mask_options(options, settings),
        max_pixels=options.max_pixels,
        apply_exif=preprocessing.get("exif") != "ignore",
    )
    root.prepare()
    return root


def _mask_options(options: argparse.Namespace, settings: Mapping[str, Any]) -> MaskOptions:
    """Return how masks are stored: as given, otherwise as in the run."""
    chosen = {}
    for name in _OF_MASKS:
        given = getattr(options, f"masks_{name}")
        if given is None:
            given = settings.get(f"data.masks.{name}")
        if given is not None:
            chosen[name] = given
    return MaskOptions(**chosen)


def _check_same(checkpoints: Sequence[str], candidate: SceneCandidate, first: Evaluated, images: EvaluationSet) -> None:
    known = first.scenes.samples
    if images.class_names != first.analysis.table.class_names or list(images.samples.paths) != list(known.paths):
        raise UserError(
            f"{candidate.path} and {checkpoints[0]} do not have the same classes and images, so they cannot be "
            "compared; evaluate them one by one, or give --data.root and --split all."
        )


def _pictures(one: Evaluated) -> dict[int, ScenePictures]:
    """Draw the worst images, which are segmented once more: keeping all predictions would take much memory."""
    table = one.analysis.table
    place = {path: index for index, path in enumerate(one.scenes.samples.paths)}
    drawn = {}
    for index in table.worst()[:SHOWN]:
        found = examine(one.model.predictor, one.scenes, place[table.paths[index]])
        drawn[index] = draw_scene(found.pixels, found.mask, found.classes, one.analysis.palette, table.class_names)
    return drawn


def _difference(change: Metric) -> str:
    return f"{change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f})"
