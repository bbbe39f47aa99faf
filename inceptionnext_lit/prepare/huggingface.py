"""Prepare a data set of Hugging Face with their package ``datasets``; image files are written as they are stored."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName, split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.record import MANIFEST, DatasetRecord
from inceptionnext_lit.prepare.samples import Files
from inceptionnext_lit.prepare.workspace import DOWNLOADS, HIDDEN_DOWNLOADS
from inceptionnext_lit.prepare.writing import class_folders, write_bytes, write_manifest
from inceptionnext_lit.wording import count, did_you_mean, first_line, listed, printable

PREFIX = "hf:"
_CHUNK = 256  # rows
_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "PPM": ".ppm",
}


@dataclass(frozen=True)
class Columns:
    """The columns that are used.

    Attributes:
        image: The column of images.
        label: The column of labels.
        classes: The class names by label; None if the labels are names.
        multi_label: Whether an image may have several labels.
    """

    image: str
    label: str
    classes: list[str] | None
    multi_label: bool


def prepare_huggingface(
    name: str, source: Path | None, output: Path, label_column: str | None, tell: Callable[[str], object]
) -> DatasetRecord:
    """Prepare a data set; the caller holds the output folder's lock and writes the record.

    Args:
        name: ``hf:OWNER/NAME``, or ``hf:OWNER/NAME:CONFIG``.
        source: A folder with its files, such as Parquet; None to download.
        output: The folder; it exists.
        label_column: The column of labels; None for the only one, or the one called label.
        tell: Called with lines on the progress.

    Returns:
        The record of the folder.

    Raises:
        UserError: If it cannot be prepared.
    """
    if find_spec("datasets") is None:
        raise UserError(
            "Data sets of Hugging Face need the package datasets; install it with "
            "pip install 'inceptionnext-lit[prepare]'."
        )
    import datasets

    repository, _, config = name.removeprefix(PREFIX).partition(":")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository, re.ASCII) is None:
        raise UserError(f"{name} is not hf:OWNER/NAME, such as hf:uoft-cs/cifar100.")
    if source is None and Path(repository).exists():  # datasets would read it instead
        raise UserError(
            f"{name} is a data set of the Hugging Face Hub, but there is also a folder {repository} here; give the "
            f"command in another folder, or read that one with --source {repository}."
        )
    url = f"https://huggingface.co/datasets/{repository}"
    parts = _load(repository, config or None, source, output, url)
    found, notes = _splits(parts)
    first = next(iter(found.values()))
    columns = _columns(first.features, label_column, name)
    for split, data in list(found.items()):
        if _is_unlabeled(data, columns):
            notes.append(f"The split {split} has no labels and is left out.")
            del found[split]
    if not found:
        raise UserError(f"{name} has no labels in the column {columns.label}; choose another one with --label_column.")
    stored = {split: data.cast_column(columns.image, datasets.Image(decode=False)) for split, data in found.items()}
    files: dict[str, Files] = {split: _write(split, data, columns, output, tell) for split, data in stored.items()}
    in_folders = not columns.multi_label and all(
        path.startswith(f"{output / split}{os.sep}") for split, part in files.items() for path in part.paths
    )
    if not in_folders:
        write_manifest(output / MANIFEST, dict(files))
    labels = {label for part in files.values() for cell in set(part.labels) for label in cell.split("|")}
    return DatasetRecord(
        name=name,
        title=repository,
        root="." if in_folders else MANIFEST,
        metric="mAP" if columns.multi_label else "acc1",
        multi_label=columns.multi_label,
        splits={split: len(part) for split, part in files.items()},
        num_classes=len(labels),
        source=str(source.absolute()) if source is not None else url,
        license=first.info.license or f"see {url}",
        url=url,
        citation=" ".join(first.info.citation.split()) or f"see {url}",
        notes=notes,
    )


def _load(repository: str, config: str | None, source: Path | None, output: Path, url: str) -> dict[str, Any]:
    """Return the splits under their own names."""
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every attempt to connect
    cache = str(output / HIDDEN_DOWNLOADS)
    if source is not None and not source.is_dir():
        raise UserError(f"The source {source} is not a folder; name the folder with the downloaded files.")
    try:
        if source is None:
            loaded = datasets.load_dataset(repository, config, cache_dir=cache)
        elif (source / "dataset_dict.json").exists() or (source / "state.json").exists():
            loaded = datasets.load_from_disk(str(source))
        else:
            loaded = datasets.load_dataset(str(source), config, cache_dir=cache)
    except Exception as error:  # of the package, of its readers and of its connection
        if isinstance(error, OSError) and error.errno is not None:
            raise
        place = f"the folder {source}" if source is not None else url
        otherwise = " Without a network, fetch its files elsewhere and name their folder with --source."
        otherwise = "" if source is not None else otherwise
        raise UserError(f"{place} cannot be read: {printable(first_line(error))}.{otherwise}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _splits(parts: dict[str, Any]) -> tuple[dict[SplitName, Any], list[str]]:
    """Return our splits, and remarks on those that are left out."""
    found: dict[SplitName, Any] = {}
    notes = []
    for name, data in parts.items():
        split = "train" if len(parts) == 1 else split_named(name)
        if split is None or split in found:
            notes.append(f"The split {printable(name)} is left out.")
        else:
            found[split] = data
    if not found:
        raise UserError(f"The splits {listed(list(parts))} are not named like train, validation or test.")
    return {split: found[split] for split in SPLIT_NAMES if split in found}, notes


def _columns(features: Any, label_column: str | None, name: str) -> Columns:
    """Find the columns of images and of labels."""
    import datasets

    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(images) != 1 and "image" not in images:
        found = f"{count(len(images), 'column')} of images; its columns are {listed(list(features), 10)}."
        raise UserError(f"{name} has {found}")
    labels = [column for column, kind in features.items() if isinstance(_item(kind), datasets.ClassLabel)]
    plain = [column for column in ("label", "labels") if column in features]
    label = label_column or (labels[0] if len(labels) == 1 else next(iter(plain), None))
    if label is None or label not in features:
        hint = did_you_mean(label, features, otherwise="") if label is not None else ""
        known = listed(labels or list(features), 10)
        raise UserError(f"Name the column of labels of {name} with --label_column; {hint or f'it has {known}.'}")
    kind = _item(features[label])
    return Columns(
        "image" if "image" in images else images[0],
        label,
        list(kind.names) if isinstance(kind, datasets.ClassLabel) else None,
        kind is not features[label],
    )


def _item(kind: Any) -> Any:
    """Return the type of a list's items, or the type itself."""
    return getattr(kind, "feature", kind[0] if isinstance(kind, list) else kind)


def _is_unlabeled(data: Any, columns: Columns) -> bool:
    """Return whether a split has no labels: -1, as test splits of competitions have."""
    if columns.multi_label:
        return False
    labels = data.unique(columns.label)
    missing = [label for label in labels if label is None or label == -1]
    if missing and len(labels) > 1:
        raise UserError(
            f"Some images have no label in the column {columns.label}; choose another one with --label_column."
        )
    return bool(missing)


def _write(split: str, data: Any, columns: Columns, output: Path, tell: Callable[[str], object]) -> Files:
    """Write the images of a split as they are stored, unless they are files already, and return them."""
    tell(f"Writing {count(len(data), 'image')} of the split {split}")
    names = columns.classes or ([] if columns.multi_label else sorted(map(str, data.unique(columns.label))))
    folder_of = dict(zip(names, class_folders(names), strict=True))
    paths: list[str] = []
    labels: list[str] = []
    for index, row in enumerate(_rows(data)):
        values = row[columns.label] if columns.multi_label else [row[columns.label]]
        of_image = [columns.classes[value] if columns.classes is not None else str(value) for value in values]
        if not of_image or any("|" in label for label in of_image):
            raise UserError(f"Image {index} of the split {split} has no label, or one with |, which separates labels.")
        stored = row[columns.image]
        if stored["bytes"] is None:
            paths.append(stored["path"])
        else:
            folder = output / DOWNLOADS / split if columns.multi_label else output / split / folder_of[of_image[0]]
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(f"{folder}{os.sep}{index:07}{_suffix(stored, index, split)}")
            write_bytes(paths[-1], stored["bytes"])
        labels.append("|".join(of_image))
    return Files(paths, labels)


def _rows(data: Any) -> Iterator[dict[str, Any]]:
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        names = list(chunk)
        for values in zip(*chunk.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _suffix(stored: dict[str, Any], index: int, split: str) -> str:
    """Return the suffix of a stored image by its content."""
    try:
        with Image.open(BytesIO(stored["bytes"]), formats=list(_SUFFIXES)) as image:
            return _SUFFIXES[str(image.format)]
    except (UnidentifiedImageError, OSError) as error:
        name = stored["path"] or f"number {index}"
        raise UserError(f"The image {name} of the split {split} is not a supported image.") from error
