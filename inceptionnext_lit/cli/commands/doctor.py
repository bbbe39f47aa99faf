"""``doctor``: find problems in a folder of images."""

import argparse
import sys
from pathlib import Path

from rich.progress import TimeRemainingColumn

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.tools import ToolParser, file_path, positive, sentence
from inceptionnext_lit.console import progress_bar, report_console
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.masks.layouts import find_scenes
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.data.sources.prepared import refuse_unfinished
from inceptionnext_lit.data.sources.raw_imagenet import refuse_raw_imagenet
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.doctor.listing import list_folder, list_manifest
from inceptionnext_lit.doctor.report import Report, examine_listing
from inceptionnext_lit.doctor.scenes import examine_scenes
from inceptionnext_lit.doctor.terminal import print_report
from inceptionnext_lit.doctor.writing import check_output, write_report
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.wording import printable

EXAMPLES = """\
Every image is read once, and nothing is changed. Exit code 0 without problems, 1 with problems.

examples:
  python cli.py doctor MY_IMAGES
  python cli.py doctor MY_IMAGES --output report.html
  python cli.py doctor sample --workers 2 --output report.json     the embedded images
"""
_MOST_WORKERS = 8
_INTERRUPTED = 130
_WIDTH = 120  # columns of a report that is not printed to a terminal


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``doctor``.

    Returns:
        Exit code: 1 if there are problems, 130 after Ctrl-C.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    if options.output is not None:
        check_output(options.output)
    try:
        names = ColumnNames(options.path_column, options.label_column)
        report = _examine(options.folder, names, options.workers, options.max_pixels, options.classes)
        print_report(report, report_console(_WIDTH))
        if options.output is not None:
            write_report(report, options.output)
            print(f"Report: {printable(str(options.output))}")
    except KeyboardInterrupt:
        print("Interrupted; nothing was changed.", file=sys.stderr)
        return _INTERRUPTED
    return 1 if report.problems else 0


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("doctor", f"{sentence(TOOLS['doctor'])}\n\n{EXAMPLES}")
    parser.usage = f"{parser.prog} FOLDER [--output FILE.json|html] [--workers N] [--max_pixels N]"
    folder = parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a folder of images, with or without splits and classes, or with masks, or a manifest",
    )
    parser.add_argument(
        "--output", type=file_path, metavar="FILE.json|html", help="also write the whole report to a file"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        default=min(usable_cores(), _MOST_WORKERS),
        help="processes that read images (default: %(default)s)",
    )
    parser.add_argument(
        "--max_pixels",
        type=positive,
        metavar="N",
        default=MAX_PIXELS,
        help="maximum pixels of an image, as data.bad_images.max_pixels of fit (default: %(default)s)",
    )
    for role in ("path", "label"):
        parser.add_argument(f"--{role}_column", metavar="NAME", help=f"name of the manifest's {role} column")
    parser.add_argument("--classes", metavar="FILE.csv", help="the table of the masks' classes: name, r, g, b")
    folder.required = False  # or argparse would report it as missing before a misspelled key
    options = parser.parse_args(words)
    if options.folder is None:
        parser.error("the following arguments are required: FOLDER")
    options.folder = data_folder(options.folder)
    return options


def _examine(folder: Path, names: ColumnNames, workers: int, max_pixels: int, classes: str | None) -> Report:
    with progress_bar(TimeRemainingColumn()) as bar:
        task = bar.add_task("listing", total=None)
        refuse_unfinished(folder)
        refuse_raw_imagenet(folder)
        if not is_table(folder) and find_scenes(folder) is not None:
            bar.update(task, description="reading")
            return examine_scenes(folder, workers, lambda read: bar.advance(task, read), max_pixels, classes)
        listing = list_manifest(folder, names) if is_table(folder) else list_folder(folder)
        bar.update(task, description="reading", total=len(listing.items))

        def tick(read: int) -> None:
            bar.advance(task, read)
            if bar.finished:
                bar.update(task, description="comparing")

        return examine_listing(listing, workers, tick, max_pixels)
