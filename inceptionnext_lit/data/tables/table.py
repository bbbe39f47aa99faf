"""Files with a table in them: the names of the columns, and the columns that are asked for, as text."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError

Cell = str | tuple[str, ...]
"""The text of a cell, empty where there is no value; of a cell that holds a list, the texts in it."""

Columns = tuple[Sequence[int], list[list[Cell]]]
"""The number of each row in its file, as spreadsheets count them, and the columns."""


@dataclass(frozen=True)
class Table:
    """A table of which only the first rows are read yet.

    Attributes:
        path: The file.
        names: The names of the columns.
        first: The first row.
        read: Reads the columns at some places; rows without any value are left out.
        notes: What is to be said of how the file was read.
    """

    path: Path
    names: list[str]
    first: Sequence[Cell]
    read: Callable[[Sequence[int]], Columns]
    notes: tuple[str, ...] = ()


def as_text(value: Any) -> Cell:
    """The text of a value: nothing for None and NaN, no ``.0`` behind a whole number.

    Raises:
        TypeError: If it is of a kind that a manifest has no use for; the message says which.
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
    """Make columns of rows.

    Args:
        path: The file, for messages.
        names: The names of the columns.
        records: Each row's number and its values.
        places: Which columns.

    Raises:
        UserError: If a value is of a kind that a manifest has no use for.
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
