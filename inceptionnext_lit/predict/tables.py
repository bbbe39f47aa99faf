"""Tables that grow on disk row by row, so that a killed run keeps what it has written and can be resumed."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import listed

_NAMED = 6  # columns in a message
Row = dict[str, Any]
# json.dumps would create an encoder per row; NaN is not valid JSON
as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class RowFile:
    r"""A ``.csv`` file with a header or a ``.jsonl`` file, written row by row.

    Text is UTF-8. File names are bytes on most systems: bytes that are not UTF-8 are surrogates here (``os.fsdecode``),
    which CSV stores as the bytes themselves and JSON as ``\udcXX``.

    Args:
        path: The file.
        columns: Names of the columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self._is_csv = path.suffix.lower() == ".csv"
        self._file: BinaryIO | None = None
        self._mode = "wb"

    def resume(self) -> Iterator[Row]:
        """Yield the file's rows, and append to it from then on instead of replacing it.

        An incomplete row at the end, left by a kill during a write, is cut off.

        Raises:
            UserError: If the file is not such a table, or cannot be read.
        """
        self._mode = "ab"
        if not self.path.is_file():
            return
        end = 0
        try:
            with self.path.open("r+b") as file:
                for number, record in enumerate(self._records(file)):
                    row = self._decode(record, number)
                    end += len(record)
                    if row is not None:
                        yield row
                file.truncate(end)
        except OSError as error:
            raise UserError(f"{self.path} cannot be continued: {error.strerror}.") from error

    def stored_columns(self) -> list[str]:
        """Return the columns of the existing file, or of its first object; empty if it has no complete one.

        Raises:
            UserError: If the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                record = next(self._records(file), b"")
            if self._is_csv:
                return next(csv.reader([record.decode("utf-8", "surrogateescape")], strict=True), [])
            return list(json.loads(record)) if record else []
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"{self.path} cannot be continued: {error.strerror}.") from error
        except (ValueError, TypeError, csv.Error):  # not such a table
            return []

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows and flush them to the operating system; the first ones replace an older file.

        Raises:
            UserError: If they cannot be written.
        """
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open(self._mode)  # type: ignore[assignment]  # a mode in a variable
            assert self._file is not None
            if self._is_csv and self._file.tell() == 0:
                rows = [dict(zip(self.columns, self.columns, strict=True)), *rows]
            self._file.write(csv_bytes(rows, self.columns) if self._is_csv else json_lines(rows))
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"The rows could not be written to {self.path}: {error.strerror}. What was written is kept; "
                "fix that, then continue with --resume."
            ) from error

    def close(self) -> None:
        """Close the file; further rows are appended."""
        if self._file is not None:
            self._file.close()
            self._file, self._mode = None, "ab"

    def _records(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the bytes of each complete row; quoted CSV cells may contain line breaks."""
        record = b""
        for line in file:
            record += line
            if line.endswith(b"\n") and not (self._is_csv and record.count(b'"') % 2):
                yield record
                record = b""

    def _decode(self, record: bytes, number: int) -> Row | None:
        """Decode one row; None for the header."""
        try:
            if not self._is_csv:
                row = json.loads(record, parse_constant=refuse_constant)
            else:
                [cells] = csv.reader([record.decode("utf-8", "surrogateescape")], strict=True)
                row = dict(zip(self.columns, cells, strict=True))
            if set(row) != set(self.columns) or (self._is_csv and number == 0 and tuple(cells) != self.columns):
                raise ValueError("other columns")
        except (ValueError, TypeError, csv.Error) as error:
            columns = listed(self.columns, _NAMED)
            raise UserError(
                f"Line {number + 1} of {self.path} is not a row of {columns}; give another --output, or leave out "
                "--resume to replace the file."
            ) from error
        return None if self._is_csv and number == 0 else row


def refuse_constant(constant: str) -> None:
    """Refuse NaN and Infinity, which Python's parser accepts as numbers."""
    raise ValueError(f"{constant} is not valid JSON")


def csv_bytes(rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """Encode rows as CSV; a dictionary or a boolean in a cell is written as in JSON."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for row in rows:
        cells = (row[name] for name in columns)
        writer.writerow([as_json(c) if isinstance(c, dict | bool) else c for c in cells])
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def json_lines(rows: Iterable[Row]) -> bytes:
    """Encode rows as JSON objects, one per line."""
    rows = list(rows)
    try:
        return "".join(f"{as_json(row)}\n" for row in rows).encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows).encode()


def identity(text: str) -> str:
    """Return a text in comparable form, also used in Parquet: bytes that are not UTF-8 are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
