"""Prepare a data set of the table: into a folder, or into the cache."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inceptionnext_lit.data.public import PublicDataset, find_dataset
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import cache_folder, usable_cores
from inceptionnext_lit.prepare.huggingface import PREFIX, prepare_huggingface
from inceptionnext_lit.prepare.imagenet import Mode, check_same, prepare_imagenet
from inceptionnext_lit.prepare.record import DatasetRecord, read_record, write_record
from inceptionnext_lit.prepare.replacing import check_counts
from inceptionnext_lit.prepare.torchvision_sets import prepare_torchvision
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


def prepare_dataset(
    name: str,
    output: Path,
    choices: Choices,
    tell: Tell = lambda line: None,
    wait: Callable[[], object] | None = None,
) -> DatasetRecord:
    """Prepare a data set in a folder; if it is complete already, only return its record.

    Args:
        name: A data set of ``inceptionnext_lit.data.public.DATASETS``, or ``hf:OWNER/NAME``.
        output: The folder.
        choices: How to prepare it.
        tell: Called with lines on the progress.
        wait: Called before waiting for another process that works in the folder; None to raise instead.

    Raises:
        UserError: If there is no such data set, or it cannot be prepared.
    """
    row = None if name.startswith(PREFIX) else find_dataset(name)
    name = name if row is None else row.name
    _check_choices(name, row, choices)
    try:
        with claimed(output, name, choices.source, overwrite=choices.overwrite, wait=wait):
            if (done := read_record(output)) is not None:
                if row is not None and row.loader == "imagenet":
                    check_same(done, choices.subset, output)
                check_counts(output, done)
                tell(f"{output} is complete; --overwrite prepares it again.")
                return done
            if row is None:
                record = prepare_huggingface(name, choices.source, output, choices.label_column, tell)
            else:
                record = _prepare(row, output, choices, tell)
            write_record(output, record)
            return record
    except OSError as error:
        raise _explained(error, output) from error


def cached(name: str, num_workers: int | None = None) -> Path:
    """Return the prepared copy of a data set under the cache folder, which is prepared on first use.

    Several processes may call this at once: the others wait for the first.

    Args:
        name: A data set of ``inceptionnext_lit.data.public.DATASETS``, or ``hf:OWNER/NAME``.
        num_workers: Number of processes that write images; by default one for each core, at most 8.

    Raises:
        UserError: If there is no such data set, or it cannot be prepared.
    """
    name = name if name.startswith(PREFIX) else find_dataset(name).name
    output = cache_folder() / "datasets" / name.replace("/", "--").replace(":", "-")
    if read_record(output) is None:
        prepare_dataset(name, output, Choices(num_workers=num_workers), wait=lambda: None)
    return output


def _check_choices(name: str, row: PublicDataset | None, choices: Choices) -> None:
    if row is not None and choices.label_column is not None:
        raise UserError(f"--label_column is for hf:OWNER/NAME only; leave it out for {name}.")
    if row is None or row.loader != "imagenet":
        for key in ("mode", "subset"):
            if getattr(choices, key) is not None:
                raise UserError(f"--{key} is for ImageNet only; leave it out for {name}.")


def _prepare(row: PublicDataset, output: Path, choices: Choices, tell: Tell) -> DatasetRecord:
    if row.loader == "imagenet":
        return prepare_imagenet(
            row.name, choices.source, output, choices.mode or "link", choices.subset, choices.workers
        )
    return prepare_torchvision(row, choices.source, output, choices.workers, tell)


def _explained(error: OSError, output: Path) -> UserError:
    place = error.filename or output
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{place} could not be written: {error.strerror}. What is finished is kept; free some space and give the "
            "same command again."
        )
    return UserError(f"{place}: {error.strerror or error}. Correct that, then give the same command again.")
