"""What stands in a manifest's cells: labels, splits, weights and groups.

What a cell means is found out once for all equal ones, and equal ones become one object.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName, split_named
from inceptionnext_lit.data.tables import Cell
from inceptionnext_lit.errors import UserError

_SEPARATORS = "|;"
# what pandas, R and Excel write for a value that is not there
_MISSING = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "-nan", "NULL", "null", "None"})
_WHOLE_NUMBER = re.compile(r"\s*-?\d+(\.0)?\s*")
_DECIMAL_COMMA = re.compile(r"(\d+),(\d{1,2}|\d{4,})")  # of three digits, the comma could stand between thousands


def text_of(cell: Cell) -> str:
    """The text of a cell that holds a single one; empty where the value is missing."""
    text = cell if isinstance(cell, str) else "|".join(cell)
    return "" if text.strip() in _MISSING else text


def whole_numbers(cells: list[Cell]) -> list[Cell]:
    """Cells without ``.0`` if all are whole numbers: pandas writes those of a column that has had gaps as floats."""
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
    path: Path, rows: Sequence[int], cells: list[Cell], multi_label: bool | None, may_be_single: bool = False
) -> list[tuple[str, ...]]:
    """The labels in each cell.

    Args:
        path: The manifest, for messages.
        rows: The number of each cell's row.
        cells: A column.
        multi_label: Whether a cell may hold several labels; None if that is open.
        may_be_single: Whether each cell may hold one all the same.

    Raises:
        UserError: If a cell is empty or holds several labels where one is expected, or none does where several are.
    """
    of_cell = _labels_of_cells(path, rows, cells, multi_label, may_be_single)
    return [of_cell[cell] for cell in cells]


def parse_splits(path: Path, rows: Sequence[int], cells: list[Cell]) -> list[SplitName]:
    """The split that each cell names; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If one names none.
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
    """The weight in each cell, 1 where there is none; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If one is no positive number.
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
    """The group in each cell; arguments as in :func:`parse_labels`.

    Raises:
        UserError: If one is empty.
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
    # a single label may hold a comma; one that joins other labels is a list of them
    alone = {cell.strip() for cell in distinct if isinstance(cell, str)}
    are_several = len(parts[most]) > 1 and (separators != "," or all(part in alone for part in parts[most]))
    if multi_label and not may_be_single and len(parts[most]) < 2:
        raise UserError(
            f"data.multi_label is on, but no image of {path} has more than one label; leave it out, or write several "
            "labels into a cell with | between them."
        )
    if are_several and multi_label is False:
        raise UserError(
            f"Row {rows[cells.index(most)]} of {path} has several labels ({', '.join(parts[most])}), but the task "
            "takes one per image; give --data.multi_label true."
        )
    if not (multi_label or are_several):
        parts = {cell: (text_of(cell).strip(),) for cell in distinct}
    for cell, labels in parts.items():
        if any(label in _MISSING for label in labels):
            written = f" (it says {cell!r})" if isinstance(cell, str) and cell.strip() else ""
            row = rows[cells.index(cell)]
            raise UserError(f"Row {row} of {path} has no label{written}; fill it in, or remove the row.")
    return parts


def _several(cell: Cell, separators: str) -> bool:
    return isinstance(cell, tuple) or any(mark in cell for mark in separators)


def _parts(cell: Cell, separators: str) -> tuple[str, ...]:
    parts: Iterable[str] = cell if isinstance(cell, tuple) else re.split(f"[{re.escape(separators)}]", cell)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
