"""Tables: the names of the columns, and the requested columns as text."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError

Cell = str | tuple[str, ...]
"""The text of a cell, empty without a value; the texts of the items if the cell contains a list."""

Columns = tuple[Sequence[int], list[list[Cell]]]
"""The row numbers, as spreadsheets count them, and the columns."""


@dataclass(frozen=True)
class Table:
    """A table of which only the first rows have been read.

    Attributes:
        path: The file.
        names: The names of the columns.
        first: The first row.
        read: Reads the columns at given positions, without empty rows.
        notes: Remarks on how the file was read.
    """

    path: Path
    names: list[str]
    first: Sequence[Cell]
    read: Callable[[Sequence[int]], Columns]
    notes: tuple[str, ...] = ()


def as_text(value: Any) -> Cell:
    """Convert a value to text: empty for None and NaN, without ``.0`` for whole numbers.

    Raises:
        TypeError: If a manifest cannot contain values of its type.
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return tuple(text for item in value if isinstance(text := as_text(item), str))
    if isinstance(value, (datetime.date, datetime.time)):
        raise TypeError(f"the date {value}; write it as text")
    if isinstance(value, (dict, bytes)):
        raise TypeError("an object instead of a text or a number; only paths and labels are read")
    return str(value)


def gather(
    path: Path, names: Sequence[str], records: Iterable[tuple[int, Sequence[Any]]], places: Sequence[int]
) -> Columns:
    """Collect columns from rows.

    Args:
        path: The file, for messages.
        names: The names of the columns.
        records: The number and values of each row.
        places: Positions of the columns.

    Raises:
        UserError: If a manifest cannot contain values of a value's type.
    """
    rows: list[int] = []
    columns: list[list[Cell]] = [[] for _ in places]
    for row, record in records:
        rows.append(row)
        for place, column in zip(places, columns, strict=True):
            value = record[place]
            try:
                column.append(value if type(value) is str else as_text(value))
            except TypeError as error:
                raise UserError(f"Row {row} of {path} has in the column {names[place]!r} {error}.") from error
    return rows, columns
