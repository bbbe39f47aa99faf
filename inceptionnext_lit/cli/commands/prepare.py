"""``prepare``: turn a public data set into a folder or a manifest that all commands read."""

import argparse
import re
import shlex
from pathlib import Path

from inceptionnext_lit.cli import TOOLS
from inceptionnext_lit.cli.tools import ToolParser, file_path, positive, sentence
from inceptionnext_lit.console import plain_table, rendered
from inceptionnext_lit.data.public import DATASETS, PublicDataset, find_dataset
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.prepare.record import DatasetRecord
from inceptionnext_lit.program import exact_name
from inceptionnext_lit.wording import count, printable

EXAMPLES = """\
Files stay where they are: a data set of image files becomes a manifest over them, and one of arrays becomes PNG files
in class folders. Without --source, the data set is downloaded into the output folder. If a run was stopped, the same
command continues it.

examples:
  python cli.py prepare --list
  python cli.py prepare cifar100 --output CIFAR100
  python cli.py prepare flowers102 --output FLOWERS --source DOWNLOADED
  python cli.py prepare hf:OWNER/NAME --output FOLDER
  python cli.py prepare imagenet --output IMAGENET --source ILSVRC --mode link
  python cli.py prepare masks --source MY_SCENES --output SCENES     images with masks, for segmentation
"""
KINDS = ("auto", "index", "palette", "binary", "color", "coco", "labelme", "yolo")
MASK_SETS = ("masks", "ade20k", "cityscapes", "voc")
MODES = ("link", "copy", "move")


def run(words: list[str]) -> None:
    """Run the command.

    Args:
        words: Command-line arguments after ``prepare``.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options = _parse(words)
    if options.list:
        print(_listing() if options.name is None else _details(find_dataset(options.name)), end="")
        return
    if options.name in MASK_SETS:
        _run_masks(options)
        return
    _refuse_mask_keys(options)
    from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset

    choices = Choices(
        options.source, options.num_workers, options.overwrite, options.mode, options.subset, options.label_column
    )
    record = prepare_dataset(options.name, options.output, choices, tell=_tell)
    _report(record, options.output)


def _run_masks(options: argparse.Namespace) -> None:
    from inceptionnext_lit.data.masks.options import MaskOptions
    from inceptionnext_lit.prepare.masks import prepare_masks

    for key in ("mode", "subset", "label_column"):
        if getattr(options, key) is not None:
            raise UserError(f"--{key} is for other data sets; leave it out for {options.name}.")
    masks = MaskOptions(kind=options.kind or "auto", classes=options.classes)
    record = prepare_masks(options.name, options.source, options.output, masks, overwrite=options.overwrite, tell=_tell)
    _report(record, options.output)


def _refuse_mask_keys(options: argparse.Namespace) -> None:
    for key in ("kind", "classes"):
        if getattr(options, key) is not None:
            raise UserError(f"--{key} is for {', '.join(MASK_SETS)} only; leave it out for {options.name}.")


def _parse(words: list[str]) -> argparse.Namespace:
    parser = ToolParser("prepare", f"{sentence(TOOLS['prepare'])}\n\n{EXAMPLES}")
    parser.usage = (
        f"{parser.prog} NAME --output FOLDER [--source DOWNLOADED] [--num_workers N] [--overwrite]\n"
        f"       {parser.prog} [NAME] --list"
    )
    names = "a name of --list, hf:OWNER/NAME of Hugging Face, or masks, ade20k, cityscapes or voc for segmentation"
    parser.add_argument("name", nargs="?", metavar="NAME", help=names)
    parser.add_argument("--output", type=file_path, metavar="FOLDER", help="where to write the prepared data set")
    parser.add_argument(
        "--source", type=file_path, metavar="DOWNLOADED", help="the downloaded archives or files, or their folder"
    )
    parser.add_argument(
        "--num_workers",
        type=positive,
        metavar="N",
        default=min(usable_cores(), 8),
        help="processes that write images (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list the data sets, or all that is known of one")
    parser.add_argument("--mode", choices=MODES, help="ImageNet only: how files get into class folders (default: link)")
    parser.add_argument(
        "--subset",
        type=_subset,
        metavar="K_CLASSES,N_PER_CLASS",
        help="ImageNet only: the first classes, with this many training images each",
    )
    parser.add_argument("--label_column", metavar="NAME", help="hf:OWNER/NAME only: the column of labels")
    parser.add_argument("--kind", choices=KINDS, help="masks only: how masks are stored (default: it is detected)")
    parser.add_argument("--classes", metavar="FILE.csv", help="masks only: the table of classes: name, r, g, b")
    parser.add_argument("--overwrite", action="store_true", help="replace what prepare has written there before")
    options = parser.parse_args(words)
    if not options.list and (
        missing := [name for name, key in (("NAME", "name"), ("--output", "output")) if getattr(options, key) is None]
    ):
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return options


def _subset(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*),([1-9]\d*)", text.replace(" ", ""))
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not K_CLASSES,N_PER_CLASS, such as 100,50")
    return int(found[1]), int(found[2])


def _listing() -> str:
    table = plain_table(None)
    for column in ("name", "data set", "classes", "train", "val", "test", "metric", "license or terms"):
        table.add_column(column, justify="right" if column in ("classes", "train", "val", "test") else "left")
    for row in DATASETS.values():
        sizes = [f"{row.splits[split]:,}" if split in row.splits else "" for split in ("train", "val", "test")]
        table.add_row(row.name, row.title, f"{row.num_classes:,}", *sizes, row.metric, row.license)
    return rendered(table)


def _details(row: PublicDataset) -> str:
    parts = ", ".join(f"{images:,} {split}" for split, images in row.splits.items())
    lines = {
        "data set": row.title,
        "images": f"{parts}; {count(row.num_classes, 'class', 'classes')}",
        "splits": row.official,
        "metric": row.metric,
        "license": row.license,
        "page": row.url,
        "citation": row.citation,
        "note": " ".join(row.notes),
    }
    return "".join(f"{key:<10}{text}\n" for key, text in lines.items() if text)


def _tell(line: str) -> None:
    print(printable(line), flush=True)


def _report(record: DatasetRecord, output: Path) -> None:
    parts = ", ".join(f"{images:,} {split}" for split, images in record.splits.items())
    print(
        f"{record.title}: {parts} images, {count(record.num_classes, 'class', 'classes')}, in {printable(str(output))}"
    )
    for note in record.notes:
        print(printable(f"Note: {note}"))
    print(printable(f"License: {record.license}. Source: {record.url or record.source}"))
    multi = " --data.multi_label true" if record.multi_label else ""
    recipe = "segment/folder" if record.has_masks else "finetune/folder"
    root = printable(shlex.quote(str(output)))
    print(f"Next: {exact_name()} fit --config {recipe} --data.root {root}{multi}")
