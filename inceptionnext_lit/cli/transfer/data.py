"""The data sets of ``transfer``: folders, manifests, prepared folders, or names of public data sets."""

import os
from collections.abc import Sequence
from pathlib import Path

from inceptionnext_lit.cli.transfer.models import distinct_titles
from inceptionnext_lit.data.sources.embedded import SAMPLE
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.manifest import read_manifest
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare import prepared_folder
from inceptionnext_lit.prepare.record import DatasetRecord, read_record
from inceptionnext_lit.reports.transfer.dataset import TransferData, open_data
from inceptionnext_lit.wording import printable


def open_all(words: Sequence[str]) -> list[TransferData]:
    """List the images of all data sets.

    Args:
        words: Folders, manifests, ``sample``, or names of public data sets, which are prepared on first use.

    Raises:
        UserError: If one cannot be used, or is given twice.
    """
    roots = [_root(word) for word in words]
    places = [word if word == SAMPLE else os.path.realpath(word) for word in roots]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UserError(f"The data set {printable(words[number])} is given twice; leave one out.")
    records = [None if root == SAMPLE else read_record(Path(root)) for root in roots]
    titles = distinct_titles([(_title(*pair), pair[0]) for pair in zip(roots, records, strict=True)])
    return [_open(*one) for one in zip(titles, roots, records, strict=True)]


def _root(word: str) -> str:
    path = os.path.expanduser(word)
    if word == SAMPLE or os.path.exists(path):
        return word if word == SAMPLE else path
    if os.sep in word or is_table(Path(word)):
        raise UserError(f"{printable(word)} does not exist; give a folder, a manifest, or the name of a data set.")
    return str(prepared_folder(word))


def _title(root: str, record: DatasetRecord | None) -> str:
    if record is not None:
        return record.name
    return SAMPLE if root == SAMPLE else Path(os.path.abspath(root)).name


def _open(title: str, root: str, record: DatasetRecord | None) -> TransferData:
    multi_label = record.multi_label if record is not None else is_table(Path(root)) and _has_several_labels(Path(root))
    images = ImageRoot(root, multi_label=multi_label)
    images.prepare()
    metric = record.metric if record is not None else "mAP" if multi_label else "acc1"
    if metric == "mIoU":
        raise UserError(f"{printable(title)} is a data set for segmentation; transfer compares classifiers.")
    return open_data(title, images, metric)


def _has_several_labels(path: Path) -> bool:
    return any(len(labels) != 1 for labels in read_manifest(path, multi_label=None).labels)
