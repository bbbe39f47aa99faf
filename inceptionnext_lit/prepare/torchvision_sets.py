"""Prepare the data sets of the table that torchvision knows, and scikit-learn's digits."""

import hashlib
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.public import PublicDataset
from inceptionnext_lit.data.sources.files import is_skipped
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.downloading import download
from inceptionnext_lit.prepare.layouts import layout_of
from inceptionnext_lit.prepare.locating import Place, located
from inceptionnext_lit.prepare.readers import reader_of
from inceptionnext_lit.prepare.record import MANIFEST, DatasetRecord
from inceptionnext_lit.prepare.samples import Arrays, Files, Split
from inceptionnext_lit.prepare.workspace import DOWNLOADS, HIDDEN_DOWNLOADS
from inceptionnext_lit.prepare.writing import write_images, write_manifest
from inceptionnext_lit.wording import count, first_line, printable


def prepare_torchvision(
    row: PublicDataset, source: Path | None, output: Path, workers: int, tell: Callable[[str], object]
) -> DatasetRecord:
    """Prepare a data set; the caller holds the output folder's lock and writes the record.

    Args:
        row: The data set.
        source: What was downloaded; None to download.
        output: The folder; it exists.
        workers: Number of processes that write images.
        tell: Called with lines on the progress.

    Returns:
        The record of the folder.

    Raises:
        UserError: If it cannot be prepared.
    """
    if row.loader == "digits":
        if source is not None:
            raise UserError("The digits come with scikit-learn; leave out --source.")
        place = Place(output, {})
        return _write(row, _read(row, place, "scikit-learn"), output, workers, "scikit-learn")
    layout = layout_of(row.name)
    if missing := [name for name in layout.packages if find_spec(name) is None]:
        raise UserError(f"{row.title} needs {missing[0]}; install it with pip install 'inceptionnext-lit[prepare]'.")
    staging = output / (HIDDEN_DOWNLOADS if layout.is_arrays else DOWNLOADS)
    if source is None:
        download(row, staging, tell)
    origin = str(source.absolute()) if source is not None else layout.web
    if source is not None:  # of another source, other files are unpacked
        staging /= hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    with located(row, source or staging, staging) as place:
        splits = _read(row, place, origin)
        return _write(row, splits, output, workers, origin)


def _read(row: PublicDataset, place: Place, origin: str) -> dict[str, Split]:
    """Read and check the splits."""
    read = reader_of(row.name)
    splits: dict[str, Split] = {}
    for split in row.splits:
        try:
            images = read(place.root, split)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # torchvision's classes raise almost any type on damaged files
            reason = printable(first_line(error))
            if "download=True" in reason:  # torchvision's advice, after comparing MD5 sums
                reason = "its files are missing, or their checksums differ"
            raise UserError(
                f"{row.title} in {origin} cannot be read: {reason}. Download it again; expected "
                f"{layout_of(row.name).expected}."
            ) from error
        splits[split] = _checked(images, place) if isinstance(images, Files) else images
    for split, images in splits.items():
        if len(images) != row.splits[split]:
            raise UserError(
                f"{origin} has {count(len(images), 'image')} in the split {split} of {row.title}; expected "
                f"{row.splits[split]:,}. It is incomplete or another version; download it again."
            )
    classes = _classes(splits)
    if len(classes) != row.num_classes:
        raise UserError(
            f"{origin} has {count(len(classes), 'class', 'classes')} of {row.title}; expected {row.num_classes:,}. It "
            "is incomplete or another version; download it again."
        )
    return splits


def _classes(splits: Mapping[str, Split]) -> set[str]:
    found: set[str] = set()
    for images in splits.values():
        if isinstance(images, Files):
            found.update(name for label in set(images.labels) for name in label.split("|"))
        else:
            found.update(images.classes[index] for index in set(images.labels.tolist()))
    return found


def _checked(files: Files, place: Place) -> Files:
    """Return the files without our links; each must exist and have content."""
    paths = []
    missing: list[str] = []
    for path in files.paths:
        actual = place.actual(path)
        try:
            is_missing = os.stat(path).st_size == 0 or is_skipped(os.path.basename(path))
        except OSError:
            is_missing = True
        if is_missing:
            missing.append(actual)
        paths.append(actual)
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} images do not exist or are empty, such as {missing[0]}: the source is "
            "incomplete. Unpack or download it again."
        )
    return Files(paths, files.labels, files.groups)


def _write(row: PublicDataset, splits: Mapping[str, Split], output: Path, workers: int, origin: str) -> DatasetRecord:
    files = {split: images for split, images in splits.items() if isinstance(images, Files)}
    if files:
        write_manifest(output / MANIFEST, files)
    arrays = {split: images for split, images in splits.items() if isinstance(images, Arrays)}
    with progress_bar() as bar:
        task = bar.add_task("writing", total=sum(map(len, arrays.values())))
        write_images(output, arrays, workers, lambda written: bar.advance(task, written))
    return DatasetRecord(
        name=row.name,
        title=row.title,
        root=MANIFEST if files else ".",
        metric=row.metric,
        multi_label=row.multi_label,
        splits={split: len(images) for split, images in splits.items()},
        num_classes=row.num_classes,
        source=origin,
        license=row.license,
        url=row.url,
        citation=row.citation,
        notes=[f"Splits: {row.official}.", *row.notes],
    )
