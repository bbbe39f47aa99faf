"""A table of images as the description of a data set: ``.csv``, ``.tsv`` or ``.parquet``, a row per image."""

import csv
import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError

MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
COLUMNS = ("path", "label", "split", "weight", "group")
SPLITS = ("train", "val", "test")
_SEPARATORS = "|;"
_COLUMNS_MEANT = f"A manifest has the columns path and label, and may have {', '.join(COLUMNS[2:])}."


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a manifest.

    Attributes:
        path: The file, absolute or relative to the current folder as the manifest's own path is.
        labels: Its labels; one, unless the manifest is multi-label.
        split: ``train``, ``val`` or ``test``; None where the manifest does not say.
        weight: How much the image counts in the training loss.
        group: What must stay on one side of a split, such as a patient or a place; None where there is no such column.
    """

    path: str
    labels: tuple[str, ...]
    split: str | None = None
    weight: float = 1.0
    group: str | None = None


def is_manifest(path: str | Path) -> bool:
    """Whether a path is named like a manifest and is no folder."""
    return Path(path).suffix.lower() in MANIFEST_SUFFIXES and not Path(path).is_dir()


def read_paths(path: str | Path) -> list[str]:
    """The images of a manifest, of which only the column ``path`` is read; files may be missing.

    Raises:
        UserError: If the table cannot be read or has no such column.
    """
    rows = _read_rows(Path(path), columns=("path",))
    return [_beside(path, row["path"]) for row in rows if row["path"]]


def read_manifest(path: str | Path, *, multi_label: bool | None = False) -> list[Entry]:
    """Read and check a manifest.

    Paths are relative to the manifest's own folder. In a multi-label manifest a cell holds labels with ``|`` or ``;``
    between them (with commas where neither occurs), or a Parquet list; an empty one means that the image has none.

    Args:
        path: The table.
        multi_label: Whether an image may have several labels; None accepts both kinds.

    Returns:
        The images in the order of the rows.

    Raises:
        UserError: If the table cannot be read, has unknown or missing columns, an unknown split, a row without path
            or label, a weight that is no positive number, an image in two rows, files that do not exist, or several
            labels per image where one is expected, or the reverse.
    """
    path = Path(path)
    rows = _read_rows(path)
    if not rows:
        raise UserError(f"The manifest {path} has no rows. {_COLUMNS_MEANT}")
    labels = _split_labels(path, [row["label"] for row in rows], multi_label)
    entries = [_entry(path, n, row, of_row) for n, (row, of_row) in enumerate(zip(rows, labels, strict=True), start=2)]
    _check_files(path, entries)
    if "split" in rows[0]:
        _check_splits(path, entries)
    return entries


def _entry(manifest: Path, line: int, row: Mapping[str, Any], labels: tuple[str, ...]) -> Entry:
    where = f"Row {line} of {manifest}"
    if not row["path"]:
        raise UserError(f"{where} has the label {row['label']!r} but no image; fill in its path, or remove the row.")
    split = row.get("split")
    if "split" in row and split not in SPLITS:
        raise UserError(f"{where} has the split {split!r}; it must be one of {', '.join(SPLITS)}.")
    try:
        weight = 1.0 if row.get("weight") in (None, "") else float(row["weight"])
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf"):
        raise UserError(f"{where} has the weight {row['weight']!r}; it must be a number above 0.")
    group = row.get("group")
    if "group" in row and not group:
        raise UserError(f"{where} has no group; give each image one, or leave the column out.")
    return Entry(_beside(manifest, row["path"]), labels, split, weight, group)


def _read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows as dictionaries of texts (a list of texts for a Parquet list).

    Args:
        path: The table.
        columns: What is read; None for everything, of which every column has to be known.
    """
    if not path.is_file():
        raise UserError(f"There is no manifest {path}; check the path given as --data.root.")
    names, rows = _read_parquet(path, columns) if path.suffix.lower() == ".parquet" else _read_text(path)
    needed = columns or COLUMNS[:2]
    if missing := [name for name in needed if name not in names]:
        raise UserError(
            f"The manifest {path} has no column {' and no column '.join(missing)} (it has {', '.join(names)}). "
            f"{_COLUMNS_MEANT}"
        )
    if columns is None and (unknown := [name for name in names if name not in COLUMNS]):
        near = difflib.get_close_matches(unknown[0].strip().casefold(), COLUMNS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"The manifest {path} has the unknown column {unknown[0]!r}.{hint} {_COLUMNS_MEANT}")
    return rows


def _read_text(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            rows = list(reader)
            names = list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The manifest {path} is no {delimiter!r}-separated table in UTF-8: {error}.") from error
    except OSError as error:
        raise UserError(f"The manifest {path} cannot be read: {error.strerror}.") from error
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise UserError(
                f"Row {line} of {path} has {'more' if None in row else 'fewer'} cells than the {len(names)} columns "
                f"{', '.join(names)}; put quotes around a cell that holds {delimiter!r}."
            )
    return names, rows


def _read_parquet(path: Path, columns: Sequence[str] | None) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"Reading {path} needs a package that is not there: pip install pyarrow.") from error
    try:
        names = list(parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=None if columns is None else [c for c in columns if c in names])
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"The manifest {path} is no Parquet file, or is damaged.") from error
    return names, [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [str(item) for item in value]
    return "" if value is None else str(value)


def _split_labels(path: Path, cells: Sequence[Any], multi_label: bool | None) -> list[tuple[str, ...]]:
    separators = _SEPARATORS if any(_several(cell, _SEPARATORS) for cell in cells) else ","
    parts = [_parts(cell, separators) for cell in cells]
    found = max(range(len(parts)), key=lambda n: len(parts[n]))
    if multi_label:
        if len(parts[found]) < 2:
            raise UserError(
                f"data.multi_label is on, but no image of {path} has more than one label; leave it out, or write "
                "several labels into a cell with | between them."
            )
        return parts
    # a single label may hold a comma; one that joins other labels is a list of them
    alone = {cell for cell in cells if isinstance(cell, str)}
    if len(parts[found]) > 1 and (separators != "," or all(part in alone for part in parts[found])):
        if multi_label is None:
            return parts
        raise UserError(
            f"Row {found + 2} of {path} has several labels ({', '.join(parts[found])}), but the task takes one per "
            "image; give --data.multi_label true."
        )
    for line, cell in enumerate(cells, start=2):
        if not cell:
            raise UserError(f"Row {line} of {path} has no label; fill it in, or remove the row.")
    return [(str(cell[0] if isinstance(cell, list) else cell),) for cell in cells]


def _several(cell: Any, separators: str) -> bool:
    return isinstance(cell, list) or any(mark in cell for mark in separators)


def _parts(cell: Any, separators: str) -> tuple[str, ...]:
    parts: Iterable[str] = cell if isinstance(cell, list) else re.split(f"[{re.escape(separators)}]", cell)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _check_files(manifest: Path, entries: Sequence[Entry]) -> None:
    lines: dict[str, int] = {}
    for line, entry in enumerate(entries, start=2):
        place = os.path.normpath(entry.path)
        if place in lines:
            raise UserError(
                f"Rows {lines[place]} and {line} of {manifest} both name {entry.path}; give each image one row "
                "(several labels go into one cell, with | between them)."
            )
        lines[place] = line
    missing = [entry.path for entry in entries if not os.path.isfile(entry.path)]
    if missing:
        first = f"row {lines[os.path.normpath(missing[0])]}: {missing[0]}"
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{len(missing)} of {len(entries)} files of {manifest} do not exist ({first}{others}). "
            f"Paths are relative to {manifest.parent}; correct them, or remove the rows."
        )


def _check_splits(manifest: Path, entries: Sequence[Entry]) -> None:
    trained = {label for entry in entries if entry.split == "train" for label in entry.labels}
    for line, entry in enumerate(entries, start=2):
        if trained and (foreign := [label for label in entry.labels if label not in trained]):
            raise UserError(
                f"Row {line} of {manifest} has the label {foreign[0]!r} in the split {entry.split}, which no image of "
                "the split train has; add training images of it, or remove the row."
            )


def _beside(manifest: str | Path, path: str) -> str:
    return os.path.join(os.path.dirname(manifest), os.path.expanduser(path))
