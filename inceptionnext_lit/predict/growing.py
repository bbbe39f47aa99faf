"""A table of rows in any of the formats, that grows as they are made and can be continued."""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.tables import Row, RowFile, as_json, identity, json_lines, refuse_constant
from inceptionnext_lit.safe_save import replacing

FORMATS = (".csv", ".jsonl", ".json", ".parquet")
JSON_FORMATS = (".jsonl", ".json")
_GROWING = (".csv", ".jsonl")
_CHUNK = 16384  # most rows held in memory at a time, and per Parquet row group
_CELLS = 2**20  # most cells in them
Kind = type[str] | type[float] | type[bool] | type[int] | type[dict[str, Any]]


class TableLayout(Protocol):
    """Which fields a row has, and how they become cells of a table.

    Attributes:
        required: Fields that every such table has.
    """

    required: ClassVar[tuple[str, ...]]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a row's fields, which are the keys of a JSON object."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in CSV and Parquet."""
        ...

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Type of the columns in Parquet; a dictionary is stored as JSON; others are float32."""
        ...

    def cells(self, row: Row) -> Row:
        """Return a row's values by column."""
        ...

    def row(self, cells: Row) -> Row:
        """Return the row of a table's cells; the inverse of :meth:`cells`."""
        ...

    def of_file(self, found: Sequence[str]) -> "TableLayout":
        """Return the layout for continuing a file with these fields or columns; none if it has no row."""
        ...

    def check(self, found: Sequence[str], file: str) -> None:
        """Refuse to continue a file whose rows have other fields or columns; raises UserError."""
        ...


LayoutType = TypeVar("LayoutType", bound=TableLayout)


class GrowingTable(Generic[LayoutType]):
    """A file with a row per image, in any format.

    ``.csv`` and ``.jsonl`` are written incrementally. ``.json`` and ``.parquet`` are written at the end, from the rows
    in ``OUTPUT.partial.jsonl``, which is left behind if the run is killed.

    Attributes:
        output: The file.
        layout: Which fields the rows have.
        count: Number of rows.

    Args:
        output: The file.
        layout: Which fields the rows have.

    Raises:
        UserError: If the file has another suffix or is a folder, or Parquet is not available.
    """

    def __init__(self, output: str, layout: LayoutType) -> None:
        self.output = Path(output).expanduser()
        self._format = self.output.suffix.lower()
        if self._format not in FORMATS:
            raise UserError(f"--output is {output}; it must end in .csv, .jsonl, .json or .parquet.")
        if self.output.is_dir():
            raise UserError(f"--output is {output}, a folder; give the path of a file in it.")
        if self._format == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise UserError(f"Writing {output} needs a package that is not installed: pip install pyarrow.")
        self._growing = (
            self.output if self._format in _GROWING else self.output.with_name(f"{self.output.name}.partial.jsonl")
        )
        self.count = 0
        self.lay_out(layout)

    def lay_out(self, layout: LayoutType) -> None:
        """Set which fields the rows have, before the first one is read or written."""
        self.layout = layout
        self._rows = RowFile(self._growing, layout.columns if self._is_csv else layout.fields)

    @property
    def is_json(self) -> bool:
        """Whether rows are JSON objects."""
        return self._format in JSON_FORMATS

    @property
    def _is_csv(self) -> bool:
        return self._format == ".csv"

    @property
    def existing(self) -> Path | None:
        """The output if it exists, or the partial file of a killed run."""
        return self.output if self.output.is_file() else self.leftover

    @property
    def leftover(self) -> Path | None:
        """The partial file that a killed run has left next to the output."""
        partial = self._growing
        return partial if partial != self.output and partial.is_file() else None

    def stored(self) -> Iterator[Row]:
        """Yield the rows of an earlier run, and append to them from then on.

        Cells of CSV are text, but for those of JSON.

        Raises:
            UserError: If the file does not contain such rows, or they have other fields.
        """
        unpacks = self._growing != self.output and self.leftover is None and self.output.is_file()
        try:
            if unpacks:
                self._unpack()
            found = self._rows.stored_columns()
            self.lay_out(self.layout.of_file(found))  # type: ignore[arg-type] # the same class
            if set(self.layout.required) <= set(found):
                self.layout.check(found, str(self.output))
            for row in self._rows.resume():
                self.count += 1
                yield self._row(row)
        except UserError:
            if unpacks:
                self._growing.unlink(missing_ok=True)
            raise

    def rows(self) -> Iterator[Row]:
        """Yield the rows that were written so far, or by an earlier run."""
        if self._growing.is_file():
            columns = self.layout.columns if self._is_csv else self.layout.fields
            yield from map(self._row, RowFile(self._growing, columns).resume())
        elif self.output.is_file():
            yield from _read(self.output, self.layout)

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch's rows; raises as :meth:`RowFile.append`."""
        if rows:
            layout = self.layout
            cells = layout.cells if self._is_csv else lambda row: {name: row[name] for name in layout.fields}
            self._rows.append(list(map(cells, rows)))
            self.count += len(rows)

    def finish(self) -> None:
        """Close the file, and write the final one if it is another and there are rows.

        Raises:
            UserError: If it cannot be written; the rows then remain in the partial file.
        """
        self._rows.close()
        if self.leftover is None or not self.count:
            return
        try:
            with replacing(self.output) as target:
                rows = RowFile(self._growing, self.layout.fields).resume()
                if self._format == ".parquet":
                    _write_parquet(rows, self.layout, target)
                else:
                    _write_array(rows, target)
        except OSError as error:
            raise UserError(
                f"The predictions could not be written to {self.output}: {error.strerror}. They are kept in "
                f"{self._growing}; fix that, then continue with --resume."
            ) from error
        self._growing.unlink()

    def close(self) -> None:
        """Close the file without writing the final one."""
        self._rows.close()

    def _row(self, cells: Row) -> Row:
        """Return the row of a line of the growing file."""
        return _parsed(self.layout.row(cells), self.layout) if self._is_csv else cells

    def _unpack(self) -> None:
        """Convert a finished file back to a partial one."""
        with replacing(self._growing) as target, target.open("wb") as file:
            for rows in _chunks(_read(self.output, self.layout), _chunk(self.layout)):
                file.write(json_lines(rows))


def _chunk(layout: TableLayout) -> int:
    """Return how many rows are held in memory at a time."""
    return max(1, min(_CHUNK, _CELLS // len(layout.columns)))


def _read(path: Path, layout: TableLayout) -> Iterator[Row]:
    """Yield the rows of a finished ``.json`` or ``.parquet`` file."""
    try:
        if path.suffix.lower() == ".json":
            yield from json.loads(path.read_bytes(), parse_constant=refuse_constant)
            return
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            layout = layout.of_file(found)
            if set(layout.required) <= set(found):
                layout.check(found, str(path))
            names = {identity(name): name for name in layout.columns}
            for batch in file.iter_batches(_chunk(layout), columns=list(names)):
                for cells in batch.to_pylist():
                    yield _parsed(layout.row({names[column]: value for column, value in cells.items()}), layout)
    except (ValueError, TypeError, KeyError) as error:  # includes pyarrow's errors
        raise UserError(f"{path} has no predictions; give another --output, or leave out --resume.") from error


def _parsed(row: Row, layout: TableLayout) -> Row:
    return row | {name: json.loads(row[name]) for name, kind in layout.kinds.items() if kind is dict}


def _write_array(rows: Iterable[Row], target: Path) -> None:
    """Write one JSON array, one row per line."""
    with target.open("wb") as file:
        separator = b"[\n"
        for row in rows:
            file.write(separator + b" " + json_lines([row]).rstrip(b"\n"))
            separator = b",\n"
        file.write(b"\n]\n")


def _write_parquet(rows: Iterable[Row], layout: TableLayout, target: Path) -> None:
    """Write Parquet in row groups."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    kinds: dict[Kind, Any] = {str: text, dict: text, float: pyarrow.float64(), bool: pyarrow.bool_()}
    kinds[int] = pyarrow.int64()
    types = {name: kinds[kind] for name, kind in layout.kinds.items()}
    texts = [name for name, kind in layout.kinds.items() if kind is dict]
    schema = pyarrow.schema([(identity(name), types.get(name, pyarrow.float32())) for name in layout.columns])
    with parquet.ParquetWriter(target, schema) as writer:
        for chunk in _chunks(rows, _chunk(layout)):
            cells = [layout.cells(row | {name: as_json(row[name]) for name in texts}) for row in chunk]
            columns = {
                identity(name): [identity(one[name]) if types.get(name) is text else one[name] for one in cells]
                for name in layout.columns
            }
            writer.write_table(pyarrow.table(columns, schema))


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk
