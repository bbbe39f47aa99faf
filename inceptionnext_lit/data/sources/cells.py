"""Parse a manifest's cells: labels, splits, weights and groups.

Equal cells are parsed once and share one object.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName, split_named
from inceptionnext_lit.data.tables import Cell
from inceptionnext_lit.errors import UserError

_SEPARATORS = "|;"
# what pandas, R and Excel write for missing values
_MISSING = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "-nan", "NULL", "null", "None"})
_WHOLE_NUMBER = re.compile(r"\s*-?\d+(\.0)?\s*")
_DECIMAL_COMMA = re.compile(r"(\d+),(\d{1,2}|\d{4,})")  # with three digits, the comma may separate thousands


def text_of(cell: Cell) -> str:
    """Return the text of a cell with a single value; empty if the value is missing."""
    text = cell if isinstance(cell, str) else "|".join(cell)
    return "" if text.strip() in _MISSING else text


def whole_numbers(cells: list[Cell]) -> list[Cell]:
    """Strip ``.0`` if all cells are whole numbers: pandas writes integer columns with missing values as floats."""
    has_points = False
    for cell in cells:
        if isinstance(cell, tuple):
            return cells
        if _WHOLE_NUMBER.fullmatch(cell):
            has_points = has_points or "." in cell
        elif cell.strip() not in _MISSING:
            return cells
    return [str(cell).strip().removesuffix(".0") for cell in cells] if has_points else cells


def parse_labels(
    path: Path,
    rows: Sequence[int],
    cells: list[Cell],
    multi_label: bool | None,
    may_be_single: bool = False,
    is_exact: bool = False,
) -> list[tuple[str, ...]]:
    """Parse the labels in each cell.

    Args:
        path: The manifest, for messages.
        rows: The row number of each cell.
        cells: A column.
        multi_label: Whether a cell may have several labels; None to detect it.
        may_be_single: Whether all cells of a multi-label manifest may have one label each.
        is_exact: Whether labels mean what they say, so that ``NA`` is a label, and only ``|`` separates labels.

    Raises:
        UserError: If a cell is empty, has several labels in a single-label manifest, or if no cell has several in a
            multi-label one.
    """
    if is_exact:
        return _exact_labels(path, rows, cells, multi_label)
    of_cell = _labels_of_cells(path, rows, cells, multi_label, may_be_single)
    return [of_cell[cell] for cell in cells]


def parse_splits(path: Path, rows: Sequence[int], cells: list[Cell]) -> list[SplitName]:
    """Parse the split in each cell; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If a cell does not name a split.
    """
    known: dict[Cell, SplitName] = {}
    for cell in dict.fromkeys(cells):
        split = split_named(text_of(cell))
        if split is None:
            row = rows[cells.index(cell)]
            raise UserError(f"Row {row} of {path} has the split {cell!r}; it must be one of {', '.join(SPLIT_NAMES)}.")
        known[cell] = split
    return [known[cell] for cell in cells]


def parse_weights(path: Path, rows: Sequence[int], cells: list[Cell]) -> list[float]:
    """Parse the weight in each cell, 1 if empty; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If a weight is not a positive number.
    """
    known: dict[Cell, float] = {}
    for cell in dict.fromkeys(cells):
        text = cell.strip() if isinstance(cell, str) else "|".join(cell)
        if found := _DECIMAL_COMMA.fullmatch(text):
            text = f"{found[1]}.{found[2]}"
        try:
            known[cell] = float(text) if text else 1.0
        except ValueError:
            known[cell] = -1.0
        if not 0 < known[cell] < float("inf"):
            row = rows[cells.index(cell)]
            raise UserError(f"Row {row} of {path} has the weight {cell!r}; it must be a number above 0.")
    return [known[cell] for cell in cells]


def parse_groups(path: Path, rows: Sequence[int], cells: list[Cell]) -> list[str]:
    """Parse the group in each cell; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If a cell is empty.
    """
    cells = whole_numbers(cells)
    known = {cell: text_of(cell).strip() for cell in dict.fromkeys(cells)}
    for cell, group in known.items():
        if not group:
            row = rows[cells.index(cell)]
            raise UserError(f"Row {row} of {path} has no group; give each image one, or leave the column out.")
    return [known[cell] for cell in cells]


def _labels_of_cells(
    path: Path, rows: Sequence[int], cells: list[Cell], multi_label: bool | None, may_be_single: bool
) -> dict[Cell, tuple[str, ...]]:
    distinct = dict.fromkeys(cells)
    separators = _SEPARATORS if any(_several(cell, _SEPARATORS) for cell in distinct) else ","
    parts = {cell: _parts(cell, separators) for cell in distinct}
    most = max(distinct, key=lambda cell: len(parts[cell]))
    # a single label may contain a comma; if its parts also occur alone, it is a list
    alone = {cell.strip() for cell in distinct if isinstance(cell, str)}
    are_several = len(parts[most]) > 1 and (separators != "," or all(part in alone for part in parts[most]))
    if multi_label and not may_be_single and len(parts[most]) < 2:
        raise UserError(
            f"data.multi_label is on, but no image of {path} has more than one label; leave it out, or separate "
            "several labels in a cell with |."
        )
    if are_several and multi_label is False:
        raise UserError(_too_many(path, rows[cells.index(most)], parts[most]))
    if not (multi_label or are_several):
        parts = {cell: (text_of(cell).strip(),) for cell in distinct}
    for cell, labels in parts.items():
        if any(label in _MISSING for label in labels):
            written = f" (it has {cell!r})" if isinstance(cell, str) and cell.strip() else ""
            row = rows[cells.index(cell)]
            raise UserError(f"Row {row} of {path} has no label{written}; fill it in, or remove the row.")
    return parts


def _exact_labels(
    path: Path, rows: Sequence[int], cells: list[Cell], multi_label: bool | None
) -> list[tuple[str, ...]]:
    of_cell = {
        cell: tuple(("|".join(cell) if isinstance(cell, tuple) else cell).split("|")) for cell in dict.fromkeys(cells)
    }
    for cell, labels in of_cell.items():
        if multi_label is False and len(labels) > 1:
            raise UserError(_too_many(path, rows[cells.index(cell)], labels))
    return [of_cell[cell] for cell in cells]


def _too_many(path: Path, row: int, labels: Sequence[str]) -> str:
    return (
        f"Row {row} of {path} has several labels ({', '.join(labels)}), but the task expects one per image; set "
        "--data.multi_label true."
    )


def _several(cell: Cell, separators: str) -> bool:
    return isinstance(cell, tuple) or any(mark in cell for mark in separators)


def _parts(cell: Cell, separators: str) -> tuple[str, ...]:
    parts: Iterable[str] = cell if isinstance(cell, tuple) else re.split(f"[{re.escape(separators)}]", cell)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
