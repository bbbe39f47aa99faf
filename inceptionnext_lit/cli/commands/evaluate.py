"""``evaluate``: how good a model is and where it is wrong, as a page, JSON and a table of images."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.tools import ToolParser, add_class_names, file_path, positive, sentence, whole_number
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.program import usage_name
from inceptionnext_lit.wording import count, printable

EXAMPLES = """\
Writes index.html, report.json, predictions (.parquet, or .csv without pyarrow) and confusion.csv into a folder. All
labeled images of data.root are evaluated, or one split of them. The exit code is 1 if an image cannot be read, unless
--allow_unreadable is given. For segmentation models, the table is per_image, and images have masks.

examples:
  python cli.py evaluate best.ckpt --data.root MY_IMAGES --split val --output report
  python cli.py evaluate best.ckpt other.ckpt --data.root TEST.csv --output comparison
  python cli.py evaluate --model.name inceptionnext_tiny --model.pretrained true --data.root IMAGENET/val
  python cli.py evaluate segmenter.ckpt --data.root MY_IMAGES_WITH_MASKS --split val --output report
  python cli.py evaluate --predictions runs/small_data_oof.parquet --output label_errors
"""
_MOST_WORKERS = 8
_BATCH_SIZE = 32
_METHODS = ("gradcam", "gradcam++", "integrated_gradients", "occlusion")
_MASK_KINDS = ("auto", "index", "palette", "binary", "color", "coco", "labelme", "yolo")
_FEWEST_RESAMPLES = 100  # for 95% intervals
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
    import_heavy("inceptionnext_lit.cli.evaluate.classifiers")
    from inceptionnext_lit.cli.evaluate.calibrated_copy import check_calibrated
    from inceptionnext_lit.cli.evaluate.classifiers import check_explainable, evaluate_models, evaluate_table, write
    from inceptionnext_lit.cli.evaluate.output_lock import holding
    from inceptionnext_lit.cli.evaluate.segmentation import (
        evaluate_segmentation,
        evaluates_segmentation,
        write_segmentation,
    )
    from inceptionnext_lit.cli.quiet import silence_library_chatter
    from inceptionnext_lit.reports.evaluation.writing import check_folder

    silence_library_chatter()
    keep_memory()
    check_folder(options.output, overwrite=options.overwrite)
    is_segmentation = evaluates_segmentation(options)
    check_calibrated(options)
    if options.explain:
        check_explainable(options)
    command = f"{usage_name()} evaluate {shlex.join(words)}"
    with holding(options.output):
        check_folder(options.output, overwrite=options.overwrite)  # another run may just have written a report
        if is_segmentation:
            scenes = evaluate_segmentation(options, command)
            paths, unreadable = write_segmentation(options, scenes), scenes[0].context.unreadable
        else:
            options.batch_size = options.batch_size or _BATCH_SIZE
            options.method = options.method or _METHODS[0]
            evaluated = evaluate_table(options, command) if options.predictions else evaluate_models(options, command)
            paths, unreadable = write(options, evaluated), evaluated[0].context.unreadable
        for path in paths:
            print(f"Written to {printable(str(path))}")
    return _say_unreadable(unreadable, allowed=options.allow_unreadable)


def _say_unreadable(unreadable: list[tuple[str, str]], *, allowed: bool) -> int:
    """Print the images that could not be evaluated, and return the exit code."""
    if not unreadable:
        return 0
    for path, reason in unreadable[:_SHOWN]:
        print(f"Not evaluated: {printable(path)}: {reason}", file=sys.stderr)
    if allowed:
        return 0
    print_error(
        f"{count(len(unreadable), 'image')} could not be evaluated; the metrics are of the others, and "
        "report.json lists all. Add --allow_unreadable to accept that."
    )
    return 1


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("evaluate", f"{sentence(TOOLS['evaluate'])}\n\n{EXAMPLES}")
    add = parser.add_argument
    add(
        "checkpoints",
        nargs="*",
        metavar="CKPT",
        help="checkpoints of fit or exported files; further ones are compared with the first",
    )
    add("--data.root", dest="data_root", metavar="FOLDER_OR_MANIFEST", help="labeled images (default: the run's own)")
    add("--split", choices=("all", "train", "val", "test"), default="all", help="(default: all)")
    add("--output", type=file_path, default=Path("report"), metavar="FOLDER", help="(default: report)")
    add("--overwrite", action="store_true", help="replace a report in the folder")
    add("--model.name", dest="model_name", metavar="NAME", help="evaluate published weights instead of a checkpoint")
    add("--model.pretrained", dest="model_pretrained", metavar="true|FILE", help="which weights (default: true)")
    add_class_names(parser)
    add("--predictions", type=file_path, metavar="TABLE", help="evaluate a table of predictions instead of a model")
    add("--common_classes", action="store_true", help="evaluate only the classes that images and model both have")
    add("--allow_unreadable", action="store_true", help="exit with code 0 although images could not be read")
    add(
        "--save_temperature",
        nargs="?",
        const="",
        metavar="FILE",
        help="store the temperature in a copy of the checkpoint",
    )
    add("--save_thresholds", nargs="?", const="", metavar="FILE", help="store the threshold of each label in a copy")
    add(
        "--explain",
        type=whole_number,
        default=0,
        metavar="N",
        help="show heat maps of N mistakes (default: 0)",
    )
    add("--method", choices=_METHODS, help="of the heat maps (default: gradcam)")
    add("--table", choices=("csv", "parquet"), help="format of the predictions (default: parquet if available)")
    add("--resamples", type=_resamples, default=1000, metavar="N", help="bootstrap samples (default: 1000)")
    add("--seed", type=int, default=0, metavar="N", help="seed of bootstrap and halves (default: 0)")
    add("--data.batch_size", dest="batch_size", type=positive, metavar="N", help=f"(default: {_BATCH_SIZE})")
    workers = min(usable_cores(), _MOST_WORKERS)
    add(
        "--data.num_workers",
        dest="num_workers",
        type=whole_number,
        default=workers,
        metavar="N",
        help="loader processes",
    )
    add(
        "--data.bad_images.max_pixels",
        dest="max_pixels",
        type=positive,
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
    _add_mask_options(add)
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    options = parser.parse_intermixed_args(words)
    if options.class_names is not None and options.model_name is None:
        parser.error("argument --data.class_names: it is for --model.name; checkpoints and tables have their own names")
    return options


def _add_mask_options(add: Any) -> None:
    add(
        "--data.masks.kind",
        dest="masks_kind",
        choices=_MASK_KINDS,
        help="how masks are stored (default, here and below: as in the checkpoint's run)",
    )
    add("--data.masks.classes", dest="masks_classes", metavar="FILE", help="table of the masks' classes")
    add(
        "--data.masks.reduce_zero_label",
        dest="masks_reduce_zero_label",
        type=_flag,
        metavar="true|false",
        help="whether the masks' value 0 has no class, and 1 is the first",
    )
    add("--data.masks.ignore_index", dest="masks_ignore_index", type=whole_number, metavar="N", help="ignored value")


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def _resamples(text: str) -> int:
    if not text.isdecimal() or int(text) < _FEWEST_RESAMPLES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of {_FEWEST_RESAMPLES} or more")
    return int(text)
