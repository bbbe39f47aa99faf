"""Read tables with typed cells: JSON lines, Parquet and Excel workbooks."""

import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.tables.table import Columns, Table, as_text, gather
from inceptionnext_lit.data.tables.text import read_content
from inceptionnext_lit.errors import UserError

_LOOKED_AT = 100  # rows of JSON lines whose keys are the columns


def open_json_lines(path: Path) -> Table:
    """Open a file with one JSON object per line; the keys of the first hundred are the columns.

    Raises:
        UserError: If it cannot be read, or is not such a file.
    """
    content = read_content(path)
    start = [record for (_, record), _ in zip(_objects(path, content), range(_LOOKED_AT), strict=False)]
    names = list(dict.fromkeys(key for record in start for key in record))

    def read(places: Sequence[int]) -> Columns:
        rows = ((row, [record.get(name) for name in names]) for row, record in _objects(path, content))
        return gather(path, names, rows, places)

    return Table(path, names, [_shown(start[0].get(name)) for name in names] if start else [], read)


def _objects(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, line in enumerate(io.BytesIO(content), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:
            raise UserError(f"Line {row} of {path} is not a JSON object in UTF-8: {error}.") from error
        if not isinstance(record, dict):
            raise UserError(f"Line {row} of {path} is not a JSON object; an example is {_EXAMPLE}.")
        yield row, record


_EXAMPLE = '{"path": "a.jpg", "label": "cat"}'


def open_parquet(path: Path) -> Table:
    """Open a Parquet file.

    Raises:
        UserError: If it cannot be read, or pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"Reading {path} needs a package that is not installed: pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        start = next(file.iter_batches(1), None) if file.metadata.num_rows else None
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"The manifest {path} is not a Parquet file, or is damaged.") from error

    def read(places: Sequence[int]) -> Columns:
        try:
            table = parquet.ParquetFile(path).read(columns=[names[place] for place in places])
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"The manifest {path} is damaged.") from error
        rows = range(1, table.num_rows + 1)
        columns = []
        for place in places:
            values = ((row, [value]) for row, value in zip(rows, table[names[place]].to_pylist(), strict=True))
            columns += gather(path, [names[place]], values, [0])[1]
        return rows, columns

    return Table(path, names, [_shown(column[0].as_py()) for column in start.columns] if start else [], read)


def open_workbook(path: Path) -> Table:
    """Open the first sheet of an Excel workbook.

    Raises:
        UserError: If it cannot be read, or openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"Reading {path} needs a package that is not installed: pip install openpyxl; or save it as CSV."
        ) from error
    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = workbook.worksheets[0]
        start = [record for record, _ in zip(_filled(sheet), range(2), strict=False)]
    except Exception as error:  # openpyxl raises almost any type if it is not a workbook
        raise UserError(f"The manifest {path} is not an Excel workbook, or is damaged; save it as CSV.") from error
    others = len(workbook.worksheets) - 1
    notes = (f"Only the first of {others + 1} sheets of {path} is read: {sheet.title}.",) if others else ()
    header, cells = start[0] if start else (0, ())
    names = [str(_shown(value)).strip() for value in cells]
    first = [_shown(value) for value in start[1][1]] if len(start) > 1 else []
    return Table(
        path, names, [*first, *[""] * len(names)][: len(names)], partial(_read, path, sheet, header, names), notes
    )


def _read(path: Path, sheet: Any, header: int, names: list[str], places: Sequence[int]) -> Columns:
    padding = (None,) * len(names)
    rows = ((row, (*record, *padding)) for row, record in _filled(sheet) if row > header)
    return gather(path, names, rows, places)


def _filled(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for row, record in enumerate(sheet.iter_rows(values_only=True), start=1):
        if any(value not in (None, "") for value in record):
            yield row, record


def _shown(value: Any) -> Any:
    """Return a value's text; empty if it does not have one."""
    try:
        return as_text(value)
    except TypeError:
        return ""
