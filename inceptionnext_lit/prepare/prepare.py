"""Prepare a data set of the table: into a folder, or into the cache."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inceptionnext_lit.data.public import PublicDataset, find_dataset
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.prepare.imagenet import Mode, prepare_imagenet
from inceptionnext_lit.prepare.record import DatasetRecord, read_record, write_record
from inceptionnext_lit.prepare.workspace import claimed

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Choices:
    """How a data set is prepared.

    Attributes:
        source: A folder with what was downloaded; None to download.
        num_workers: Number of processes that write images; None for one for each core, at most 8.
        overwrite: Whether to replace what was prepared in the folder before.
        mode: How ImageNet's files get into class folders.
        subset: Number of classes of ImageNet, and of training images of each; None for all.
        label_column: The column of labels of a data set of Hugging Face.
    """

    source: Path | None = None
    num_workers: int | None = None
    overwrite: bool = False
    mode: Mode | None = None
    subset: tuple[int, int] | None = None
    label_column: str | None = None

    @property
    def workers(self) -> int:
        """Number of processes that write images."""
        return self.num_workers or min(usable_cores(), 8)


def prepare_dataset(name: str, output: Path, choices: Choices, tell: Tell = lambda line: None) -> DatasetRecord:
    """Prepare a data set in a folder; if it is complete already, only return its record.

    Args:
        name: A data set of :data:`inceptionnext_lit.data.public.DATASETS`.
        output: The folder.
        choices: How to prepare it.
        tell: Called with lines on the progress.

    Raises:
        UserError: If there is no such data set, or it cannot be prepared.
    """
    row = find_dataset(name)
    try:
        with claimed(output, row.name, choices.source, overwrite=choices.overwrite):
            if (done := read_record(output)) is not None:
                tell(f"{output} is complete; --overwrite prepares it again.")
                return done
            record = _prepare(row, output, choices)
            write_record(output, record)
            return record
    except OSError as error:
        raise _explained(error, output) from error


def _prepare(row: PublicDataset, output: Path, choices: Choices) -> DatasetRecord:
    return prepare_imagenet(row.name, choices.source, output, choices.mode or "link", choices.subset, choices.workers)


def _explained(error: OSError, output: Path) -> UserError:
    place = error.filename or output
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{place} could not be written: {error.strerror}. What is finished is kept; free some space and give the "
            "same command again."
        )
    return UserError(f"{place}: {error.strerror or error}. Correct that, then give the same command again.")
