"""Replace a prepared data set: the earlier one is kept until the new one is complete."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inceptionnext_lit.data.sources.prepared import STATE
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import FILE, MANIFEST, DatasetRecord, read_record
from inceptionnext_lit.wording import count

SPLITS = ("train", "val", "test")
SCENES = ("images", "masks", "classes.csv")  # of a data set for segmentation
REPLACED = ".replaced"  # the earlier data set


def check_counts(output: Path, record: DatasetRecord) -> None:
    """Refuse a prepared folder whose class folders have more or fewer files than were written there.

    Args:
        output: The folder.
        record: Its record; a data set with a manifest has no class folders.

    Raises:
        UserError: If they differ.
    """
    for folder, found, written in _counts(output, record):
        if found != written:
            raise UserError(
                f"{folder} has {count(found, 'file')}, but prepare wrote {written:,}. Move files of your own "
                "elsewhere, and prepare it again with --overwrite if some are missing."
            )


def _counts(output: Path, record: DatasetRecord) -> Iterator[tuple[Path, int, int]]:
    """Yield each split's folder, the number of its files, and how many were written; nothing for a manifest."""
    for split, written in record.splits.items() if record.root != MANIFEST else ():
        for parent in (output / "images", output / "masks") if record.has_masks else (output,):
            folder = parent / split
            yield folder, sum(len(files) for _, _, files in os.walk(folder, followlinks=True)), written


def set_aside(output: Path, others: tuple[str, ...]) -> None:
    """Move what an earlier run has written into a hidden folder.

    Args:
        output: The folder.
        others: Names of further files and folders in it that belong to the earlier data set.

    Raises:
        UserError: If its class folders have files that ``prepare`` did not write.
    """
    record = read_record(output)
    for folder, found, written in _counts(output, record) if record is not None else ():
        if found > written:
            raise UserError(
                f"{folder} has {count(found, 'file')}, but prepare wrote {written:,}; --overwrite would delete "
                "the others too. Move them elsewhere, or name another folder with --output."
            )
    own = record is None or record.root != MANIFEST
    names = [FILE, MANIFEST, STATE, *((*SPLITS, *SCENES) if own else ()), *others]
    aside = output / REPLACED
    if aside.is_dir() and record is None:  # a replacement was interrupted: what is there now is its beginning
        for name in names:
            _remove(output / name)
        return
    _remove(aside)
    aside.mkdir()
    for name in names:
        if (output / name).exists() or (output / name).is_symlink():
            (output / name).rename(aside / name)


def restore(output: Path) -> None:
    """Move the earlier data set back, if there is one."""
    aside = output / REPLACED
    if not aside.is_dir():
        return
    for entry in sorted(aside.iterdir()):
        _remove(output / entry.name)
        entry.rename(output / entry.name)
    aside.rmdir()


def discard(output: Path) -> None:
    """Delete the earlier data set, if there is one."""
    _remove(output / REPLACED)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
