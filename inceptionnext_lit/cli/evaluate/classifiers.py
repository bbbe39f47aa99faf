"""Evaluate classifiers as the command line asks, and write the report."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from inceptionnext_lit.cli.evaluate.calibrated_copy import save_calibration
from inceptionnext_lit.cli.evaluate.candidates import Candidate, class_names_of, load_candidates
from inceptionnext_lit.cli.evaluate.exports import ExportedTask
from inceptionnext_lit.cli.exported_file import is_exported
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.evaluation_set import EvaluationSet, Run, evaluation_set
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.split_names import split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.analysis import Analysis, analyze
from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.comparison import accuracy_name, compare
from inceptionnext_lit.reports.evaluation.cost import library_versions, measure_cost
from inceptionnext_lit.reports.evaluation.inference import Inference, predict_images
from inceptionnext_lit.reports.evaluation.metrics import Metric
from inceptionnext_lit.reports.evaluation.page import Compared, Explained, render_page
from inceptionnext_lit.reports.evaluation.predictions_file import default_suffix
from inceptionnext_lit.reports.evaluation.reading import read_predictions
from inceptionnext_lit.reports.evaluation.record import Context, as_plain, compared
from inceptionnext_lit.reports.evaluation.writing import write_report
from inceptionnext_lit.wording import count, printable


@dataclass(frozen=True)
class Evaluated:
    """A model with its evaluation.

    Attributes:
        analysis: The evaluation.
        context: Where it comes from.
        candidate: The model; None for a table of predictions.
    """

    analysis: Analysis
    context: Context
    candidate: Candidate | None = None


def evaluate_table(options: argparse.Namespace, command: str) -> list[Evaluated]:
    """Evaluate a table of predictions.

    Args:
        options: The options of ``evaluate``.
        command: The command, to be repeated.

    Raises:
        UserError: If a model is named too, or the table is not one of predictions.
    """
    if options.checkpoints or options.model_name or options.data_root:
        raise UserError("--predictions is evaluated instead of a model; leave out the checkpoints, --model and --data.")
    if options.common_classes:
        raise UserError("--common_classes compares images and a model; leave it out for a table of predictions.")
    table = read_predictions(options.predictions)
    if options.split != "all":
        kept = [place for place, split in enumerate(table.splits) if split_named(split) == options.split]
        if not kept:
            raise UserError(f"No row of {options.predictions} has the split {options.split}; leave out --split.")
        table = table.take(kept)
    line = f"{count(len(table), 'prediction')} for {count(len(table.class_names), 'class', 'classes')}"
    print(f"Images:     {line} in {printable(str(options.predictions))}")
    context = Context(
        (f"{line} in {options.predictions}.",),
        str(options.predictions),
        options.split,
        str(options.predictions),
        command,
        versions=library_versions(),
    )
    return [Evaluated(analyze({"": table}, bootstrap_of(options)), context)]


def evaluate_models(options: argparse.Namespace, command: str) -> list[Evaluated]:
    """Evaluate all models on the same images.

    Args:
        options: The options of ``evaluate``.
        command: The command, to be repeated.

    Raises:
        UserError: If no model is named, one cannot be loaded or evaluated, or they have other classes or images.
    """
    weights = (options.model_name, options.model_pretrained, options.class_names)
    candidates = load_candidates(options.checkpoints, *weights, max_pixels=options.max_pixels)
    if not candidates:
        raise UserError("Name what to evaluate: a checkpoint of fit, --model.name NAME, or --predictions TABLE.")
    evaluated: list[Evaluated] = []
    images: EvaluationSet | None = None
    known = next((one.run for one in candidates if one.run.settings), Run())
    for candidate in candidates:
        run = candidate.run if candidate.run.settings else known  # an exported file does not say what was held back
        spec = candidate.task.data_spec
        place = options.data_root or run.settings.get("data.root")
        if place is None:
            raise UserError("No images were named; give a folder or a manifest with --data.root.")
        channels = len(spec.preprocessing["mean"]) if spec.preprocessing else 3
        columns = ColumnNames(options.path_column, options.label_column)
        root = ImageRoot(place, channels, spec.multi_label, columns, None)
        root.prepare()
        root.given_classes = class_names_of(candidate.task, root)
        found = evaluation_set(root, root.given_classes, options.split, run, common_classes=options.common_classes)
        found = found if run is candidate.run else found.without_training()
        if images is not None:
            found = found.in_order_of(images)
        if images is not None and (found.class_names != images.class_names or found.samples != images.samples):
            raise UserError(
                f"{candidate.source} and {candidates[0].source} do not have the same classes and images, so they "
                "cannot be compared; evaluate them one by one, or give --split all and --common_classes."
            )
        for line in found.description if images is None else found.description[1:]:
            print(f"Images:     {printable(line if images is None else f'{candidate.source}: {line}')}")
        images = images or found
        evaluated.append(_evaluate_model(options, command, candidate, found, place))
    return _on_common_images(evaluated, bootstrap_of(options))


def _evaluate_model(
    options: argparse.Namespace, command: str, candidate: Candidate, images: EvaluationSet, place: str
) -> Evaluated:
    with progress_bar() as bar:
        shown = bar.add_task("predicting", total=len(images.samples))
        inference = _infer(options, candidate, images, lambda done: bar.advance(shown, done))
    cost = _measure_cost(options, candidate)
    cost["evaluated_images_per_second"] = round(len(images.samples) / inference.seconds, 1)
    context = Context(
        tuple(f"{line.rstrip('.')}." for line in images.description),
        str(place),
        options.split,
        candidate.source,
        command,
        inference.unreadable,
        candidate.record,
        cost,
        library_versions(),
        candidate.curves,
    )
    return Evaluated(analyze(inference.tables, bootstrap_of(options)), context, candidate)


def _infer(
    options: argparse.Namespace, candidate: Candidate, images: EvaluationSet, tick: Callable[[int], object]
) -> Inference:
    task = candidate.task
    if isinstance(task, ExportedTask):
        return task.predict_images(images, batch_size=options.batch_size, num_workers=options.num_workers, tick=tick)
    return predict_images(
        task,
        images,
        device=usable_device(options.device),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        max_pixels=options.max_pixels,
        tick=tick,
    )


def _measure_cost(options: argparse.Namespace, candidate: Candidate) -> dict[str, Any]:
    task, path = candidate.task, candidate.path
    if isinstance(task, ExportedTask):
        assert path is not None
        return task.cost(options.batch_size, path)
    assert task.preprocessing is not None
    return measure_cost(
        task.inference_model,
        task.preprocessing,
        device=usable_device(options.device),
        batch_size=options.batch_size,
        path=path,
    )


def _on_common_images(evaluated: list[Evaluated], bootstrap: Bootstrap) -> list[Evaluated]:
    """Return the evaluations on the images that all models could be evaluated on."""
    shared = set.intersection(*(set(one.analysis.table.paths) for one in evaluated))
    results = []
    for one in evaluated:
        table = one.analysis.table
        if len(shared) == len(table):
            results.append(one)
            continue
        kept = table.take([index for index, path in enumerate(table.paths) if path in shared])
        results.append(replace(one, analysis=analyze({one.analysis.weights: kept}, bootstrap)))
    return results


def write(options: argparse.Namespace, evaluated: list[Evaluated]) -> list[Path]:
    """Print the metrics, and write the report and the calibrated checkpoint.

    Args:
        options: The options of ``evaluate``.
        evaluated: The evaluations.

    Returns:
        The written files.

    Raises:
        UserError: If one cannot be written.
    """
    first, *others = evaluated
    record: dict[str, Any] = as_plain(first.analysis, first.context)
    further: list[Compared] = []
    for one in others:
        comparison = compare(first.analysis.table, one.analysis.table, bootstrap_of(options))
        further.append(Compared(one.context.source, one.analysis, comparison, one.context.data[1:]))
        record.setdefault("comparisons", []).append(compared(one.analysis, one.context, comparison))
    explained = _explained(options, first) if options.explain else []
    page = render_page(first.analysis, first.context, options.output, others=further, explained=explained)
    suffix = default_suffix() if options.table is None else f".{options.table}"
    for name, metric in first.analysis.summary.metrics.items():
        print(f"{name:<12}{metric_text(metric)}")
    for other in further:
        name = accuracy_name(other.analysis.table)
        accuracy = metric_text(other.analysis.summary.metrics[name])
        print(f"{printable(other.name)}: {name} {accuracy}, {_difference(other)}")
    paths = write_report(options.output, [one.analysis for one in evaluated], record, page, suffix)
    return paths if first.candidate is None else paths + save_calibration(options, first.candidate, first.analysis)


def check_explainable(options: argparse.Namespace) -> None:
    """Refuse ``--explain`` before anything is computed if it is not possible.

    Args:
        options: The options of ``evaluate``.

    Raises:
        UserError: Without a model, or without the libraries.
    """
    if options.predictions:
        raise UserError("--explain needs a model; leave it out for a table of predictions.")
    if options.checkpoints and is_exported(Path(options.checkpoints[0])):
        raise UserError(
            f"--explain needs a checkpoint, and {options.checkpoints[0]} is an exported file; leave it out."
        )
    from inceptionnext_lit.reports.explain.libraries import check_captum, check_matplotlib

    check_captum()
    check_matplotlib()


def _explained(options: argparse.Namespace, first: Evaluated) -> list[Explained]:
    from inceptionnext_lit.reports.explain.pictures import explain_images  # optional dependencies

    assert first.candidate is not None
    assert not isinstance(first.candidate.task, ExportedTask)
    wrong = first.analysis.mistakes[: options.explain].tolist()
    return explain_images(first.candidate.task, first.analysis.table, wrong, options.method)


def metric_text(metric: Metric) -> str:
    """Return a metric with its interval for the terminal."""
    if not math.isfinite(metric.value):
        return "undefined"
    has_interval = math.isfinite(metric.low)
    return f"{metric.value:.4f}" + (f"  ({metric.low:.4f} to {metric.high:.4f})" if has_interval else "")


def _difference(one: Compared) -> str:
    found = one.comparison
    return f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), McNemar's p {found.p_value:.3g}"


def bootstrap_of(options: argparse.Namespace) -> Bootstrap:
    """Return how images are resampled.

    Args:
        options: The options of ``evaluate``.
    """
    return Bootstrap(options.resamples, options.seed)


def usable_device(name: str | None) -> torch.device:
    """Return the device to run on.

    Args:
        name: Its name; None for a GPU if there is one.

    Raises:
        UserError: If it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"The device {name!r} cannot be used here; leave out --device, or give cpu.") from error
    return device
