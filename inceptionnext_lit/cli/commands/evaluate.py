"""``evaluate``: how good a classifier is and where it is wrong, as a page, JSON and a table of predictions."""

import argparse
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.tools import ToolParser, sentence
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.program import usage_name
from inceptionnext_lit.wording import count, printable

if TYPE_CHECKING:
    from inceptionnext_lit.cli.models_to_evaluate import Candidate
    from inceptionnext_lit.data.evaluation_set import EvaluationSet
    from inceptionnext_lit.reports.evaluation.analysis import Analysis
    from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
    from inceptionnext_lit.reports.evaluation.record import Context

EXAMPLES = """\
Writes index.html, report.json, predictions (.parquet, or .csv without pyarrow) and confusion.csv into a folder. All
labeled images of data.root are evaluated, or one split of them. The exit code is 1 if an image cannot be read, unless
--allow_unreadable is given.

examples:
  python cli.py evaluate best.ckpt --data.root MY_IMAGES --split val --output report
  python cli.py evaluate best.ckpt other.ckpt --data.root TEST.csv --output comparison
  python cli.py evaluate --model.name inceptionnext_tiny --model.pretrained true --data.root IMAGENET/val
  python cli.py evaluate --predictions runs/small_data_oof.parquet --output label_errors
"""
_MOST_WORKERS = 8
_BATCH_SIZE = 32
_SHOWN = 3  # images that could not be evaluated


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``evaluate``.

    Returns:
        Exit code: 1 if images could not be evaluated, unless that is allowed.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    import_heavy("inceptionnext_lit.cli.models_to_evaluate")
    from inceptionnext_lit.cli.quiet import silence_library_chatter
    from inceptionnext_lit.reports.evaluation.writing import check_folder

    silence_library_chatter()
    check_folder(options.output, overwrite=options.overwrite)
    command = f"{usage_name()} evaluate {shlex.join(words)}"
    evaluated = _evaluate_table(options, command) if options.predictions else _evaluate_models(options, command)
    for path in _write(options, evaluated):
        print(f"Written to {printable(str(path))}")
    return _say_unreadable(evaluated[0].context.unreadable, allowed=options.allow_unreadable)


@dataclass(frozen=True)
class _Evaluated:
    """A model with its evaluation.

    Attributes:
        analysis: The evaluation.
        context: Where it comes from.
        candidate: The model; None for a table of predictions.
    """

    analysis: "Analysis"
    context: "Context"
    candidate: "Candidate | None" = None


def _evaluate_table(options: argparse.Namespace, command: str) -> list[_Evaluated]:
    from inceptionnext_lit.reports.evaluation.analysis import analyze
    from inceptionnext_lit.reports.evaluation.cost import library_versions
    from inceptionnext_lit.reports.evaluation.predictions_file import read_predictions
    from inceptionnext_lit.reports.evaluation.record import Context

    if options.checkpoints or options.model_name or options.data_root:
        raise UserError("--predictions is evaluated instead of a model; leave out the checkpoints, --model and --data.")
    table = read_predictions(options.predictions)
    line = f"{count(len(table), 'prediction')} for {count(len(table.class_names), 'class', 'classes')}"
    print(f"Images:     {line} in {printable(str(options.predictions))}")
    context = Context(
        (f"{line} in {options.predictions}.",),
        str(options.predictions),
        "all",
        str(options.predictions),
        command,
        versions=library_versions(),
    )
    return [_Evaluated(analyze({"": table}, _bootstrap(options)), context)]


def _evaluate_models(options: argparse.Namespace, command: str) -> list[_Evaluated]:
    from inceptionnext_lit.cli.models_to_evaluate import class_names_of, load_candidates
    from inceptionnext_lit.data.evaluation_set import evaluation_set
    from inceptionnext_lit.data.sources.columns import ColumnNames
    from inceptionnext_lit.data.sources.image_root import ImageRoot

    candidates = load_candidates(options.checkpoints, options.model_name, options.model_pretrained)
    if not candidates:
        raise UserError("Name what to evaluate: a checkpoint of fit, --model.name NAME, or --predictions TABLE.")
    evaluated: list[_Evaluated] = []
    images: EvaluationSet | None = None
    for candidate in candidates:
        spec, run = candidate.task.data_spec, candidate.run
        place = options.data_root or run.settings.get("data.root")
        if place is None:
            raise UserError("No images were named; give a folder or a manifest with --data.root.")
        channels = len(spec.preprocessing["mean"]) if spec.preprocessing else 3
        columns = ColumnNames(options.path_column, options.label_column)
        root = ImageRoot(place, channels, spec.multi_label, columns, None)
        root.prepare()
        root.given_classes = class_names_of(candidate.task, root)
        found = evaluation_set(root, root.given_classes, options.split, run, common_classes=options.common_classes)
        if images is not None and (found.class_names != images.class_names or found.samples != images.samples):
            raise UserError(
                f"{candidate.source} and {candidates[0].source} do not have the same classes and images, so they "
                "cannot be compared; evaluate them one by one, or give --split all and --common_classes."
            )
        for line in found.description if images is None else ():
            print(f"Images:     {printable(line)}")
        images = images or found
        evaluated.append(_evaluate_model(options, command, candidate, found, place))
    return _on_common_images(evaluated, _bootstrap(options))


def _evaluate_model(
    options: argparse.Namespace, command: str, candidate: "Candidate", images: "EvaluationSet", place: str
) -> _Evaluated:
    from inceptionnext_lit.reports.evaluation.analysis import analyze
    from inceptionnext_lit.reports.evaluation.cost import library_versions, measure_cost
    from inceptionnext_lit.reports.evaluation.inference import predict_images
    from inceptionnext_lit.reports.evaluation.record import Context

    task, device = candidate.task, _device(options.device)
    with progress_bar() as bar:
        shown = bar.add_task("predicting", total=len(images.samples))
        inference = predict_images(
            task,
            images,
            device=device,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            max_pixels=options.max_pixels,
            tick=lambda done: bar.advance(shown, done),
        )
    assert task.preprocessing is not None
    cost = measure_cost(
        task.inference_model, task.preprocessing, device=device, batch_size=options.batch_size, path=candidate.path
    )
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
    return _Evaluated(analyze(inference.tables, _bootstrap(options)), context, candidate)


def _on_common_images(evaluated: list[_Evaluated], bootstrap: "Bootstrap") -> list[_Evaluated]:
    """Return the evaluations on the images that all models could be evaluated on."""
    from inceptionnext_lit.reports.evaluation.analysis import analyze

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


def _write(options: argparse.Namespace, evaluated: list[_Evaluated]) -> list[Path]:
    from inceptionnext_lit.reports.evaluation.comparison import compare
    from inceptionnext_lit.reports.evaluation.page import Compared, render_page
    from inceptionnext_lit.reports.evaluation.predictions_file import default_suffix
    from inceptionnext_lit.reports.evaluation.record import as_plain, compared
    from inceptionnext_lit.reports.evaluation.writing import write_report

    first, *others = evaluated
    record: dict[str, Any] = as_plain(first.analysis, first.context)
    further: list[Compared] = []
    for one in others:
        if first.analysis.table.multi_label:
            raise UserError("Models with several labels per image cannot be compared yet; evaluate them one by one.")
        comparison = compare(first.analysis.table, one.analysis.table, _bootstrap(options))
        further.append(Compared(one.context.source, one.analysis, comparison))
        record.setdefault("comparisons", []).append(compared(one.analysis, one.context, comparison))
    page = render_page(first.analysis, first.context, options.output, others=further)
    suffix = default_suffix() if options.table is None else f".{options.table}"
    for name, metric in first.analysis.summary.metrics.items():
        print(f"{name:<12}{metric.value:.4f}  ({metric.low:.4f} to {metric.high:.4f})")
    return write_report(options.output, [one.analysis for one in evaluated], record, page, suffix)


def _say_unreadable(unreadable: list[tuple[str, str]], *, allowed: bool) -> int:
    """Print the images that could not be evaluated, and return the exit code."""
    if not unreadable:
        return 0
    for path, reason in unreadable[:_SHOWN]:
        print(f"Not evaluated: {printable(path)}: {reason}", file=sys.stderr)
    if allowed:
        return 0
    print_error(
        f"{count(len(unreadable), 'image')} could not be evaluated and not counted; report.json lists all. Add "
        "--allow_unreadable to accept that."
    )
    return 1


def _bootstrap(options: argparse.Namespace) -> "Bootstrap":
    from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap

    return Bootstrap(options.resamples, options.seed)


def _device(name: str | None) -> Any:
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"The device {name!r} cannot be used here; leave out --device, or give cpu.") from error
    return device


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("evaluate", f"{sentence(TOOLS['evaluate'])}\n\n{EXAMPLES}")
    add = parser.add_argument
    add("checkpoints", nargs="*", metavar="CKPT", help="checkpoints of fit; further ones are compared with the first")
    add("--data.root", dest="data_root", metavar="FOLDER_OR_MANIFEST", help="labeled images (default: the run's own)")
    add("--split", choices=("all", "train", "val", "test"), default="all", help="(default: all)")
    add("--output", type=_path, default=Path("report"), metavar="FOLDER", help="(default: report)")
    add("--overwrite", action="store_true", help="replace a report in the folder")
    add("--model.name", dest="model_name", metavar="NAME", help="evaluate published weights instead of a checkpoint")
    add("--model.pretrained", dest="model_pretrained", metavar="true|FILE", help="which weights (default: true)")
    add("--predictions", type=_path, metavar="TABLE", help="evaluate a table of predictions instead of a model")
    add("--common_classes", action="store_true", help="evaluate only the classes that images and model both have")
    add("--allow_unreadable", action="store_true", help="exit with code 0 although images could not be read")
    add("--table", choices=("csv", "parquet"), help="format of the predictions (default: parquet if available)")
    add("--resamples", type=_positive, default=1000, metavar="N", help="bootstrap samples (default: 1000)")
    add("--seed", type=int, default=0, metavar="N", help="seed of bootstrap and halves (default: 0)")
    add("--data.batch_size", dest="batch_size", type=_positive, default=_BATCH_SIZE, metavar="N", help="(default: 32)")
    workers = min(usable_cores(), _MOST_WORKERS)
    add("--data.num_workers", dest="num_workers", type=_count, default=workers, metavar="N", help="loader processes")
    add(
        "--data.bad_images.max_pixels",
        dest="max_pixels",
        type=_positive,
        default=120_000_000,
        metavar="N",
        help="maximum pixels of an image",
    )
    for role in ("path", "label"):
        add(
            f"--data.manifest.{role}_column",
            dest=f"{role}_column",
            metavar="NAME",
            help=f"name of the manifest's {role} column",
        )
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    return parser.parse_intermixed_args(words)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)
