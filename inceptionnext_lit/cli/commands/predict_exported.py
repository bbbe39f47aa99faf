"""``predict`` with an exported file: the rows of a checkpoint's predictions, without torch if the format needs none."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from inceptionnext_lit.cli import COMMANDS
from inceptionnext_lit.cli.exported_file import exported_file
from inceptionnext_lit.cli.tools import ToolParser, file_path, positive, sentence, whole_number
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.decode.image import failure_reason, image_suffixes
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.sources.embedded import SAMPLE, unpack_sample
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.sources.prepared import prepared_root
from inceptionnext_lit.data.sources.scan import describe_ignored
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.predict.exported import ExportedClassifier, Opened, open_exported
from inceptionnext_lit.predict.exported_segmenter import ExportedSegmenter
from inceptionnext_lit.predict.output import PredictionOutput
from inceptionnext_lit.predict.row_output import RowOutput
from inceptionnext_lit.predict.scenes.output import SceneOutput

_BATCH, _MOST_WORKERS = 16, 8


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``predict``.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    file = exported_file(words) or Path(options.ckpt_path)
    named = options.images[1:] if options.ckpt_path is None else options.images
    if named and options.root is not None:
        raise UserError(f"Images are given twice, by {named[0]} after predict and by --data.root; leave one out.")
    named = named if options.root is None else [options.root]
    if not named:
        raise UserError(f"No images were named; give them after {file}, or a folder with --data.root.")
    opened = open_exported(file)
    choose = _segmenting if opened[1].task == "segmentation" else _labeling
    output, model = choose(file, opened, options)
    ignored: Counter[str] = Counter()
    roots = [str(unpack_sample()) if name == SAMPLE else str(prepared_root(file_path(name))) for name in named]
    channels = len(model.preprocessing["mean"])
    paths = resolve_inputs(roots, image_suffixes(channels), note=print, ignored=ignored)
    paths = output.remaining(paths, model.class_names, multi_label=model.metadata.multi_label)
    if (skipped := describe_ignored(ignored)) is not None:
        print(f"Ignored:    {skipped}")
    try:
        _predict(model, paths, output, options)
    except UserError:
        raise
    except BaseException:
        output.stop()
        raise
    output.finish()


def _labeling(
    file: Path, opened: Opened, options: argparse.Namespace
) -> tuple[RowOutput[Any, Any], ExportedClassifier | ExportedSegmenter]:
    for key, value in (("--polygons", options.polygons), ("--overlays", options.overlays is False)):
        if value:
            raise UserError(f"{key} is for segmentation models, and {file} is a classifier; leave it out.")
    output = PredictionOutput(
        options.output, options.resume, options.overwrite, options.probabilities, options.unsure_below
    )
    return output, ExportedClassifier(file, options.max_pixels, opened)


def _segmenting(
    file: Path, opened: Opened, options: argparse.Namespace
) -> tuple[RowOutput[Any, Any], ExportedClassifier | ExportedSegmenter]:
    if options.probabilities != "top5":
        raise UserError(
            "--probabilities is for classifiers; the rows of a segmentation model have the areas of all classes."
        )
    output = SceneOutput(
        options.output,
        options.resume,
        options.overwrite,
        options.unsure_below,
        options.overlays,
        options.polygons,
    )
    segmenter = ExportedSegmenter(file, options.max_pixels, opened)
    output.set_look(segmenter.load, segmenter.palette)
    return output, segmenter


def _predict(
    model: ExportedClassifier | ExportedSegmenter,
    paths: Sequence[str],
    output: RowOutput[Any, Any],
    options: argparse.Namespace,
) -> None:
    workers = options.num_workers if options.num_workers is not None else min(usable_cores(), _MOST_WORKERS)
    read_one: Callable[[str], Any] = model.prepare if isinstance(model, ExportedClassifier) else model.load
    predict: Callable[..., Any] = model.rank if isinstance(model, ExportedClassifier) else model.segment
    with progress_bar() as bar, ThreadPoolExecutor(max(1, workers)) as pool:
        shown = bar.add_task("predicting", total=len(paths))
        for start in range(0, len(paths), options.batch_size):
            chunk = paths[start : start + options.batch_size]
            read = list(pool.map(lambda path: _read(read_one, path), chunk))
            good = [(path, image) for path, image in zip(chunk, read, strict=True) if not isinstance(image, str)]
            unreadable = [(path, reason) for path, reason in zip(chunk, read, strict=True) if isinstance(reason, str)]
            predictions = predict([image for _, image in good], [path for path, _ in good])
            output.add(predictions, model.class_names, unreadable)
            bar.advance(shown, len(chunk))


def _read(read_one: Callable[[str], Any], path: str) -> Any:
    """Return an image as the file takes it, or the reason why it cannot be read."""
    try:
        return read_one(path)
    except UserError as error:
        return failure_reason(error)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("predict", f"{sentence(COMMANDS['predict'])}\n\nThese are the options for an exported file.")
    parser.usage = f"{parser.prog} EXPORTED_FILE PHOTOS_OR_FOLDERS [--KEY VALUE …]"
    add = parser.add_argument
    add("images", nargs="*", metavar="EXPORTED_FILE IMAGES", help="a file of export; images, folders, manifests")
    add("--ckpt_path", metavar="EXPORTED_FILE", help="the file, if it is not the first argument")
    add("--data.root", dest="root", metavar="FOLDER", help="the images, if they are not arguments")
    add("--output", default="predictions.csv", metavar="FILE", help=".csv, .jsonl, .json or .parquet")
    add("--resume", action="store_true", help="continue an existing output")
    add("--overwrite", action="store_true", help="replace the output if it exists")
    add("--probabilities", choices=("top5", "all"), default="top5", help="all: the probability of every class too")
    add("--unsure_below", type=float, metavar="P", help="add a column unsure: whether the best probability is lower")
    add("--overlays", type=_true_or_false, default=True, metavar="true|false", help="for segmentation: write overlays")
    add(
        "--polygons", nargs="?", const=True, default=False, metavar="FILE", help="for segmentation: a COCO file as well"
    )
    add("--data.batch_size", dest="batch_size", type=positive, default=_BATCH, metavar="N", help="images per batch")
    add("--data.num_workers", dest="num_workers", type=whole_number, metavar="N", help="threads that read images")
    add(
        "--data.bad_images.max_pixels",
        dest="max_pixels",
        type=positive,
        default=MAX_PIXELS,
        metavar="N",
        help="maximum number of pixels of an image",
    )
    return parser.parse_intermixed_args(words)


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
