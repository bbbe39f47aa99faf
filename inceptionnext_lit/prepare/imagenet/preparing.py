"""Arrange ImageNet in class folders: open the source, write what is missing, check it, and publish it."""

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.progress import TimeRemainingColumn

from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.public import find_dataset
from inceptionnext_lit.data.sources.split_names import split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.checking import (
    Inventory,
    Shortage,
    expected_counts,
    fewer_than_asked,
    known_before,
    shortage,
    take_inventory,
)
from inceptionnext_lit.prepare.imagenet.fastai import download
from inceptionnext_lit.prepare.imagenet.layouts import open_source
from inceptionnext_lit.prepare.imagenet.selection import Subset
from inceptionnext_lit.prepare.imagenet.source import Part, Source, Wanted
from inceptionnext_lit.prepare.imagenet.staging import Staging
from inceptionnext_lit.prepare.imagenet.target import Mode, Target
from inceptionnext_lit.prepare.imagenet.variants import Variant, variant
from inceptionnext_lit.prepare.record import DatasetRecord
from inceptionnext_lit.prepare.workspace import HIDDEN_DOWNLOADS, UNFINISHED

_LISTED = 10  # names of missing images that a message has
_SPARE = 64 * 2**20  # bytes that stay free
_SUBSET = "A subset: {} classes, at most {} training images of each."


def prepare_imagenet(
    name: str,
    source: Path | None,
    output: Path,
    mode: Mode = "link",
    subset: tuple[int, int] | None = None,
    num_workers: int = 1,
    row: Variant | None = None,
) -> DatasetRecord:
    """Arrange ImageNet in class folders; the caller holds the output folder's lock.

    Images get the names of the ILSVRC 2012 archives, and their bytes are not changed. They are written into a hidden
    folder, and get their final place when nothing is missing. A run that was killed is continued by the same call.

    Args:
        name: ``imagenet``, ``imagenet-100``, ``imagenette`` or ``imagewoof``.
        source: What was downloaded: a folder, or one of its files. None to download Imagenette or Imagewoof.
        output: Where to write ``train/`` and ``val/``, and the record.
        mode: How image files get there: as symbolic links to their absolute paths (of class folders as a whole where
            possible), as copies, or moved. Images in archives are written as files.
        subset: Number of classes, and of training images of each; None for all. See :class:`Subset`.
        num_workers: Number of threads.
        row: What the data set must contain; None for the row of this name.

    Returns:
        The record of the folder.

    Raises:
        UserError: If the source is not ImageNet or lacks something.
        OSError: If a file cannot be written.
    """
    row = row or variant(name)
    if source is None:
        source = download(row.name, output / HIDDEN_DOWNLOADS) if row.from_imagenet else None
    if source is None:
        raise UserError(
            f"{row.title} cannot be downloaded without an account and agreeing to its terms: get it from "
            "https://image-net.org/download, Kaggle (imagenet-object-localization-challenge) or Hugging Face "
            "(ILSVRC/imagenet-1k), and name its folder with --source."
        )
    chosen = None if subset is None else Subset(*subset)
    classes = row.classes if chosen is None else chosen.choose_classes(row.classes)
    plan = {"source": str(source.absolute()), "mode": mode, "subset": "" if chosen is None else str(chosen)}
    _check_place(source, output)
    output.mkdir(parents=True, exist_ok=True)
    staging = Staging(output, plan)
    wanted = Wanted(row, classes, chosen.images if chosen else None, mode, staging.folder)
    with _moves_explained(staging):
        return _prepare(source, output, staging, wanted, num_workers)


def _prepare(source: Path, output: Path, staging: Staging, wanted: Wanted, workers: int) -> DatasetRecord:
    if staging.is_checked:
        return _finish(staging, output, wanted, str(source.absolute()), workers)
    found = open_source(source, wanted)
    before = known_before(found)
    if short := shortage(before, wanted, found):
        raise _refusal(short, before, wanted, staging, source)
    _write(found, staging, Target(staging.folder, wanted.mode), workers)
    staging.mark_written()
    after = take_inventory(staging.folder, workers)
    if short := shortage(after, wanted, found):
        raise _refusal(short, after, wanted, staging, source)
    return _finish(staging, output, wanted, found.described, workers)


@contextmanager
def _moves_explained(staging: Staging) -> Iterator[None]:
    """Add to errors where the images are that were moved already."""
    try:
        yield
    except (UserError, OSError) as error:
        if not staging.has_moved:
            raise
        where = f"the images that were moved already are in {staging.folder}"
        if isinstance(error, UserError):
            raise UserError(f"{error} {where[0].upper()}{where[1:]}; leave them there for the same command.") from error
        raise OSError(error.errno, f"{error.strerror or error}; {where}", error.filename) from error


def check_same(done: DatasetRecord, subset: tuple[int, int] | None, output: Path) -> None:
    """Refuse to take a finished folder for another subset.

    Args:
        done: The folder's record.
        subset: The subset that is asked for; None for all.
        output: The folder.

    Raises:
        UserError: If it has another subset.
    """
    numbers = [re.findall(r"\d+", note) for note in done.notes if note.startswith(_SUBSET[:8])]
    before = ",".join(numbers[0]) if numbers else ""
    now = "" if subset is None else str(Subset(*subset))
    if before != now:
        was, wish = (f"with --subset {text}" if text else "without --subset" for text in (before, now))
        raise UserError(
            f"{output} was prepared {was}, and not {wish}; name another folder with --output, or replace it with "
            "--overwrite."
        )


def _check_place(source: Path, output: Path) -> None:
    for split in ("train", "val"):
        if (output / split).exists() and not (output / UNFINISHED).exists():
            raise UserError(f"{output} already has {split}/; name another folder with --output.")
    below, above = output.resolve(), source.resolve()
    if below.is_relative_to(above) and any(map(split_named, below.relative_to(above).parts)):
        raise UserError(f"{output} is inside a split of the source {source}; name another folder with --output.")


def _write(found: Source, staging: Staging, target: Target, workers: int) -> None:
    """Write the parts that are not done, several at a time."""
    every = [*found.val.parts, *found.train.parts]
    parts = [part for part in every if part.name not in staging.done]
    if not staging.is_written:
        _check_space(parts, staging.folder)
    staging.begin()
    for name, path in found.extras.items():
        shutil.copyfile(path, staging.folder / name)
    with progress_bar(TimeRemainingColumn()) as bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task("writing", total=len(every), completed=len(every) - len(parts))
        running = {pool.submit(part.write, target): part for part in parts}
        try:
            for done in as_completed(running):
                done.result()
                staging.finish(running[done].name)
                bar.advance(task)
        except BaseException:
            target.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_space(parts: list[Part], folder: Path) -> None:
    """Refuse to begin what the disk has no space for; parts that are begun count as a whole only if others are too."""
    needed, free = sum(part.size for part in parts), shutil.disk_usage(folder.parent).free
    begun = max((part.size for part in parts), default=0)
    if needed - begun > free - _SPARE:
        raise UserError(
            f"{folder.parent} needs {needed / 2**30:,.1f} GiB and its disk has {free / 2**30:,.1f} GiB free; free some "
            "space, or name a folder on another disk with --output."
        )


def _refusal(short: Shortage, found: Inventory, wanted: Wanted, staging: Staging, source: Path) -> UserError:
    staging.forget()
    staging.unlist_missing()
    where = f"; all are listed in {staging.list_missing(short.names)}" if len(short.names) > _LISTED else ""
    advice = "Add what is missing, then give the same command again"
    has_all = all(found.train.get(wnid) and found.val.get(wnid) for wnid in wanted.classes)
    if wanted.is_whole and has_all and found.has_train_counts and not found.empty and not staging.has_moved:
        advice += f", or take what is there with --subset {len(wanted.classes)},{max(found.train.values())}"
        advice += " --overwrite" * staging.is_begun
    return UserError(
        f"{source} is not the whole of {wanted.variant.title}: {'; '.join(short.phrases)}{where}. {advice}."
        if _is_short(found, wanted)
        else f"{source} is not {wanted.variant.title}: {'; '.join(short.phrases)}{where}. Name another --source."
    )


def _is_short(found: Inventory, wanted: Wanted) -> bool:
    """Return whether something is missing, and not only too much."""
    expected = expected_counts(found, wanted)
    whole = wanted.is_whole and (found.counts.train > expected.train or found.counts.val > expected.val)
    return not whole


def _finish(staging: Staging, output: Path, wanted: Wanted, source: str, workers: int) -> DatasetRecord:
    """Publish what is checked, and return its record."""
    found = take_inventory(staging.folder, workers)
    published = take_inventory(output, workers)  # if a run was killed while it published
    found = Inventory(published.train or found.train, published.val or found.val)
    row = find_dataset(wanted.variant.name)
    notes = list(row.notes) + fewer_than_asked(found, wanted)
    if not wanted.is_whole:
        notes.append(_SUBSET.format(len(wanted.classes), wanted.images))
    elif wanted.variant.from_imagenet is not None and found.counts == wanted.variant.from_imagenet:
        notes.append(
            "It has ImageNet's own split, as version 1 of the data set; fast.ai's version 2 has "
            f"{wanted.variant.counts.train:,} training and {wanted.variant.counts.val:,} validation images, so do not "
            "compare the accuracies."
        )
    record = DatasetRecord(
        name=row.name,
        title=row.title,
        root=".",
        metric=row.metric,
        multi_label=False,
        splits={"train": found.counts.train, "val": found.counts.val},
        num_classes=len(wanted.classes),
        source=source,
        license=row.license,
        url=row.url,
        citation=row.citation,
        notes=notes,
    )
    staging.publish(record)
    return record
