"""Manifests: tables that describe a data set, one row per image."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.cells import (
    parse_groups,
    parse_labels,
    parse_splits,
    parse_weights,
    text_of,
    whole_numbers,
)
from inceptionnext_lit.data.sources.columns import (
    COLUMNS_MEANT,
    ColumnNames,
    Roles,
    describe_columns,
    find_columns,
    known_names,
    often_splits,
)
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES
from inceptionnext_lit.data.sources.locating import Locator
from inceptionnext_lit.data.sources.prepared import is_prepared_manifest
from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName, split_named
from inceptionnext_lit.data.tables import Cell, Table, open_table
from inceptionnext_lit.errors import UserError

_USUAL = ColumnNames()


@dataclass(frozen=True)
class Manifest:
    """The images of a manifest by column; equal labels, splits and groups share one object each.

    Attributes:
        path: The table.
        rows: Row number of each image in the file.
        paths: The files, absolute or relative to the current folder like the manifest's own path.
        labels: Their labels; one each, unless the manifest is multi-label.
        splits: Their splits; None without a column of splits.
        weights: Their weights in the training loss; None if all are equal.
        groups: Groups that must stay in one split, such as a patient or a site; None without such a column.
        notes: Remarks on how the file was read, in sentences.
    """

    path: Path
    rows: Sequence[int]
    paths: list[str]
    labels: list[tuple[str, ...]]
    splits: list[SplitName] | None
    weights: list[float] | None
    groups: list[str] | None
    notes: tuple[str, ...] = ()


def read_paths(
    path: str | Path, *, columns: ColumnNames = _USUAL, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> tuple[list[str], tuple[str, ...]]:
    """Read only the paths of a manifest; files may be missing.

    Args:
        path: The table.
        columns: Unusual names of its columns.
        suffixes: Suffixes of image files.

    Returns:
        The paths, and remarks on how the file was read.

    Raises:
        UserError: If the table cannot be read or does not have a column of paths.
    """
    path = Path(path)
    table = open_table(path, lambda names: known_names(names, columns))
    roles = find_columns(path, table.names, columns, needed=("path",))
    rows, [cells] = table.read([roles["path"]])
    locator = Locator(path, suffixes)
    paths = []
    for row, cell in zip(rows, whole_numbers(cells), strict=True):
        if text := text_of(cell):
            paths.append(_locate(path, row, text, locator) or locator.written(text))
    return paths, (*table.notes, *_completions(locator, len(paths)))


def read_manifest(
    path: str | Path,
    *,
    multi_label: bool | None = False,
    may_be_single: bool = False,
    columns: ColumnNames = _USUAL,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> Manifest:
    """Read and check a manifest.

    Columns may have other usual names (see :mod:`columns`), and there may be further columns. Paths are relative to
    the manifest's own folder; see :class:`Locator`. In a multi-label manifest, a cell contains labels separated by
    ``|`` or ``;`` (by commas if neither occurs), or a list; an empty cell means that the image has no label.

    Args:
        path: The table: separated values or JSON lines (optionally gzipped), Parquet, or an Excel workbook.
        multi_label: Whether an image may have several labels; None accepts both label types.
        may_be_single: Whether all images of a multi-label manifest may have one label each.
        columns: Unusual names of its columns.
        suffixes: Suffixes of image files.

    Returns:
        The images in the order of the rows.

    Raises:
        UserError: If the table cannot be read, lacks a column, has an unknown split, a row without path or label, a
            weight that is not a positive number, an image in two rows, missing files, or the wrong label type.
    """
    path = Path(path)
    table = open_table(path, lambda names: known_names(names, columns))
    roles = find_columns(path, table.names, columns, needed=("path", "label"))
    candidates = [] if "split" in roles else _split_candidates(table, roles)
    rows, cells = table.read([*roles.values(), *candidates])
    if not rows:
        raise UserError(f"The manifest {path} has no rows. {COLUMNS_MEANT}")
    of_role = dict(zip(roles, cells, strict=False))
    of_candidate = dict(zip(candidates, cells[len(roles) :], strict=True))
    if (place := _split_among(table, rows, of_candidate)) is not None:
        roles["split"], of_role["split"] = place, of_candidate[place]
    del cells, of_candidate

    locator = Locator(path, suffixes)
    label_cells, is_exact = of_role.pop("label"), is_prepared_manifest(path)
    label_cells = label_cells if is_exact else whole_numbers(label_cells)
    labels = parse_labels(path, rows, label_cells, multi_label, may_be_single, is_exact)
    paths = _paths(path, rows, whole_numbers(of_role.pop("path")), labels, locator)
    splits = parse_splits(path, rows, of_role["split"]) if "split" in roles else None
    if splits is not None:
        _check_splits(path, rows, labels, splits)
    weights = parse_weights(path, rows, of_role["weight"]) if "weight" in roles else None
    groups = parse_groups(path, rows, of_role["group"]) if "group" in roles else None
    if groups is not None and splits is not None:
        _check_groups(path, rows, groups, splits)
    notes = (*table.notes, *describe_columns(path, table.names, roles), *_completions(locator, len(paths)))
    return Manifest(path, rows, paths, labels, splits, weights, groups, notes)


def extra_columns(
    path: Path, images: Sequence[str], columns: ColumnNames = _USUAL, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> dict[str, Sequence[str] | NDArray[np.float64]]:
    """Read the columns of a manifest that are neither paths nor labels, splits, weights and groups.

    Args:
        path: The table, valid for :func:`read_manifest`.
        images: Paths of images in it, as :func:`read_manifest` returns them.
        columns: Unusual names of its columns.
        suffixes: Suffixes of image files.

    Returns:
        The columns by name, for each of the images: numbers with NaN for empty cells, or text.
    """
    table = open_table(path, lambda names: known_names(names, columns))
    roles = find_columns(path, table.names, columns, needed=("path", "label"))
    others = [place for place in range(len(table.names)) if place not in roles.values() and table.names[place]]
    if not others:
        return {}
    rows, cells = table.read([roles["path"], *others])
    locator = Locator(path, suffixes)
    files = [_locate(path, row, text_of(cell), locator) for row, cell in zip(rows, cells[0], strict=True)]
    place_of = {file: place for place, file in enumerate(files)}
    places = [place_of[image] for image in images]
    return {
        table.names[other]: _numbers_or_text([text_of(values[place]) for place in places])
        for other, values in zip(others, cells[1:], strict=True)
    }


def _numbers_or_text(texts: list[str]) -> list[str] | NDArray[np.float64]:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return texts


def _paths(
    manifest: Path, rows: Sequence[int], cells: list[Cell], labels: list[tuple[str, ...]], locator: Locator
) -> list[str]:
    """Return the files that the cells name, which must be distinct."""
    paths: list[str] = []
    seen: dict[str, int] = {}
    missing: list[tuple[int, str]] = []
    for row, cell, of_image in zip(rows, cells, labels, strict=True):
        if not (text := text_of(cell)):
            raise UserError(
                f"Row {row} of {manifest} has the label {', '.join(of_image)!r} but no image; fill in its path, or "
                "remove the row."
            )
        found = _locate(manifest, row, text, locator)
        if found is None:
            missing.append((row, text))
            continue
        place = os.path.normpath(found) if "./" in found or "//" in found else found
        if (earlier := seen.setdefault(place, row)) != row:
            raise UserError(
                f"Rows {earlier} and {row} of {manifest} both name {found}; give each image one row (separate several "
                "labels in a cell with |)."
            )
        paths.append(found)
    if missing:
        row, text = missing[0]
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"Files that {manifest} names do not exist, {len(missing)} of {len(rows)} (row {row}: {text}{others}). "
            f"{locator.missing_hint(text)}; correct them, or remove the rows."
        )
    return paths


def _locate(manifest: Path, row: int, text: str, locator: Locator) -> str | None:
    try:
        return locator.locate(text)
    except UserError as error:
        raise UserError(f"Row {row} of {manifest}: {error}") from error


def _completions(locator: Locator, images: int) -> tuple[str, ...]:
    if locator.completed is None:
        return ()
    written, found = locator.completed
    return (f"{locator.completions} of {images} images were found elsewhere: for example, {written!r} is {found}.",)


def _split_candidates(table: Table, roles: Roles) -> list[int]:
    """Return the positions of the columns that may contain the split under another name."""
    return [
        place
        for place, (name, first) in enumerate(zip(table.names, table.first, strict=False))
        if place not in roles.values() and (often_splits(name) or split_named(text_of(first)) is not None)
    ]


def _split_among(table: Table, rows: Sequence[int], columns: dict[int, list[Cell]]) -> int | None:
    """Return the position of the split column: one with only names of splits, including ``train``.

    Raises:
        UserError: If there are two, or a column with a usual name for splits also has other values.
    """
    found: list[int] = []
    for place, cells in columns.items():
        splits = {cell: split_named(text_of(cell)) for cell in dict.fromkeys(cells)}
        odd = [cell for cell, split in splits.items() if split is None]
        if not odd and "train" in splits.values():
            found.append(place)
        elif odd and any(splits.values()) and often_splits(table.names[place]):
            raise UserError(
                f"The column {table.names[place]!r} of {table.path} names splits, but row {rows[cells.index(odd[0])]} "
                f"has {odd[0]!r}; write one of {', '.join(SPLIT_NAMES)} there, or rename the column."
            )
    if len(found) > 1:
        names = " and ".join(repr(table.names[place]) for place in found)
        raise UserError(f"The columns {names} of {table.path} could each be the split; rename or remove one of them.")
    return found[0] if found else None


def _check_groups(path: Path, rows: Sequence[int], groups: list[str], splits: list[SplitName]) -> None:
    """Refuse a group that is used in both training and evaluation."""
    firsts: dict[tuple[str, bool], int] = {}
    for row, group, split in zip(rows, groups, splits, strict=True):
        firsts.setdefault((group, split == "train"), row)
    for (group, is_trained), row in firsts.items():
        if group and is_trained and (other := firsts.get((group, False))) is not None:
            raise UserError(
                f"Rows {row} and {other} of {path} are in the group {group!r}, one in the split train and one in "
                "another; put all images of a group into one split."
            )


def _check_splits(path: Path, rows: Sequence[int], labels: list[tuple[str, ...]], splits: list[SplitName]) -> None:
    """Refuse labels that no training image has."""
    firsts: dict[tuple[tuple[str, ...], SplitName], int] = {}
    for row, pair in zip(rows, zip(labels, splits, strict=True), strict=True):
        firsts.setdefault(pair, row)
    trained = {label for of_image, split in firsts if split == "train" for label in of_image}
    for (of_image, split), row in firsts.items():
        if trained and (unknown := [label for label in of_image if label not in trained]):
            raise UserError(
                f"Row {row} of {path} has the label {unknown[0]!r} in the split {split}, which no image of the split "
                "train has; add training images of it, or remove the row."
            )
