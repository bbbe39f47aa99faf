"""The record of a prepared data set, ``dataset.json`` in its folder, which is written last."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from inceptionnext_lit.data.sources.prepared import FILE, FORMAT, MANIFEST, read_fields
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import replacing

__all__ = ["FILE", "MANIFEST", "DatasetRecord", "Metric", "read_record", "write_record"]

Metric = Literal["acc1", "macro_acc", "mAP", "mIoU"]
"""The metric that papers report: top-1 accuracy, mean accuracy of the classes, mean average precision, or mean IoU."""


@dataclass(frozen=True)
class DatasetRecord:
    """What a prepared folder contains, and where it comes from.

    Attributes:
        name: The data set's name on the command line.
        title: Its name in text.
        root: What to read: ``.`` for class folders and for images with masks, or ``manifest.csv``.
        metric: The metric that papers report.
        multi_label: Whether an image may have several labels.
        splits: Number of images of each split: ``train``, ``val`` and ``test``, as far as they exist.
        num_classes: Number of classes.
        source: Where the files come from: a folder, or a web address.
        license: The license, or the terms.
        url: The data set's page.
        citation: What to cite.
        notes: Remarks, in sentences.
    """

    name: str
    title: str
    root: str
    metric: Metric
    multi_label: bool
    splits: dict[str, int]
    num_classes: int
    source: str
    license: str
    url: str
    citation: str
    notes: list[str] = field(default_factory=list)

    @property
    def has_masks(self) -> bool:
        """Whether the folder contains images with masks."""
        return self.metric == "mIoU"


def write_record(folder: Path, record: DatasetRecord) -> None:
    """Write a folder's record atomically; a folder with a record is complete.

    Args:
        folder: The folder, with all images or the manifest written.
        record: What it contains.
    """
    with replacing(folder / FILE) as partial:
        text = json.dumps({"format": FORMAT, **asdict(record)}, indent=2, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> DatasetRecord | None:
    """Return a folder's record; None if ``prepare`` has not written the folder, or not finished.

    Args:
        folder: The folder.

    Raises:
        UserError: If the record cannot be read or lacks a field.
    """
    found = read_fields(folder)
    if found is None:
        return None
    names = [one.name for one in fields(DatasetRecord)]
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{folder / FILE} has no {missing[0]}; prepare the data set again with --overwrite.")
    return DatasetRecord(**{name: found[name] for name in names})
