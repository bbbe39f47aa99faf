"""Read separated values as written by Excel, LibreOffice, Google Sheets, pandas and R."""

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from inceptionnext_lit.data.tables.table import Columns, Table, gather
from inceptionnext_lit.errors import UserError

_SEPARATORS = (",", ";", "\t", "|")
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # a zip archive, such as .xlsx and .ods; Excel's format before 2007


def open_text_table(path: Path, known: Callable[[Sequence[str]], int]) -> Table:
    """Open a table of separated values; separator, encoding and gzip compression are detected from the content.

    The separator is a comma, a semicolon, a tab or a bar: the one that gives the most known column names.

    Args:
        path: The file.
        known: Counts the known names among column names.

    Raises:
        UserError: If it cannot be read, or is not such a table.
    """
    content = read_content(path)
    encoding, notes = _encoding(path, content)
    skipped, given = _separator_line(content, encoding)
    headers = []
    for separator in given or sorted(_SEPARATORS, key=lambda mark: mark != ("\t" if ".tsv" in path.suffixes else ",")):
        text = _Text(path, content, encoding, separator, skipped)
        number, names = next(text.records(strict=False), (1, []))
        headers.append((known([name.strip() for name in names]), len(names), text, number, names))
    _, _, text, number, names = max(headers, key=lambda header: header[:2])
    names = [name.strip() for name in names]
    first: Sequence[str] = next((record for row, record in text.records() if row > number), [])
    if len(first) == len(names) + 1 and first[0] == "1":
        names = ["", *names]  # R does not name the column of row names
    read = partial(_read, text, number, names)
    return Table(path, names, [*first, *[""] * len(names)][: len(names)], read, notes)


def read_content(path: Path) -> bytes:
    """Read the bytes of a file, decompressed if it is gzipped.

    Raises:
        UserError: If it cannot be read, or is a workbook or a damaged archive.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"The manifest {path} is a damaged gzip archive; create it again.") from error
    except OSError as error:
        raise UserError(f"The manifest {path} cannot be read: {error.strerror}.") from error
    if content.startswith(_WORKBOOKS):
        raise UserError(
            f"The manifest {path} is a workbook or an archive by its content; save it as CSV, or give an Excel "
            "workbook the suffix .xlsx."
        )
    return content


def _encoding(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return encoding, ((f"{path} is in UTF-16.",) if encoding == "utf-16" else ())
    start = content[:200]
    if start and start.count(0) > len(start) // 3:
        return ("utf-16-be" if start[0] == 0 else "utf-16-le"), (f"{path} is in UTF-16.",)
    for encoding, name in (("utf-8", ""), ("cp1252", "Windows-1252"), ("latin-1", "Latin-1")):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not name:
            return encoding, ()
        word = re.search(r"\w*[^\x00-\x7f]\w*", text)
        example = f", such as {word[0]!r}" if word else ""
        note = f"{path} is not in UTF-8; it was read as {name}{example}. If that looks wrong, save it as UTF-8."
        return encoding, (note,)
    raise AssertionError("Latin-1 decodes everything")


def _separator_line(content: bytes, encoding: str) -> tuple[int, list[str]]:
    """Return the number of lines before the header, and the separator of Excel's ``sep=;`` line, if any."""
    line = io.TextIOWrapper(io.BytesIO(content), encoding, errors="replace").readline()
    found = re.fullmatch(r'"?sep=(.)"?\s*', line)
    return (1, [found[1]]) if found else (0, [])


class _Text:
    """A decoded table.

    Args:
        path: The file, for messages.
        content: Its bytes.
        encoding: Their encoding.
        separator: Separator of the cells.
        skipped: Number of lines before the header.
    """

    def __init__(self, path: Path, content: bytes, encoding: str, separator: str, skipped: int) -> None:
        self.path = path
        self.separator = separator
        self._content = content
        self._encoding = encoding
        self._skipped = skipped

    def records(self, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and cells of each row, including the header, without empty rows."""
        csv.field_size_limit(sys.maxsize)  # unused columns may contain whole masks
        lines = io.TextIOWrapper(io.BytesIO(self._content), self._encoding, newline="")
        for _ in range(self._skipped):
            lines.readline()
        reader = csv.reader(lines, delimiter=self.separator, strict=strict)
        try:
            for row, record in enumerate(reader, start=1):
                if any(record):
                    yield row, record
        except (UnicodeError, csv.Error) as error:
            raise UserError(
                f"The manifest {self.path} is not a {self.separator!r}-separated table; line {reader.line_num}: "
                f"{error}."
            ) from error


def _read(text: _Text, header: int, names: list[str], places: Sequence[int]) -> Columns:
    def checked() -> Iterator[tuple[int, list[str]]]:
        width, last = len(names), max(places, default=0)
        for row, record in text.records():
            if row <= header:
                continue
            # spreadsheets omit or add empty cells at the end
            if len(record) <= last or (len(record) > width and any(record[width:])):
                raise UserError(
                    f"Row {row} of {text.path} has {'fewer' if len(record) <= last else 'more'} cells than the {width} "
                    f"columns {', '.join(names)}; put quotes around a cell that contains {text.separator!r}."
                )
            yield row, record

    return gather(text.path, names, checked(), places)
