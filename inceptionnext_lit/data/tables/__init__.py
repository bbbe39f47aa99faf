"""Read tables written by various programs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from inceptionnext_lit.data.tables.table import Cell, Table
from inceptionnext_lit.data.tables.text import open_text_table
from inceptionnext_lit.data.tables.typed import open_json_lines, open_parquet, open_workbook
from inceptionnext_lit.errors import UserError

__all__ = ["Cell", "Table", "is_table", "open_table"]

_TEXT = (".csv", ".tsv", ".txt")
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet",)
_WORKBOOK = (".xlsx", ".xlsm")
_READ = (*_TEXT, *_JSON_LINES, *(f"{ending}.gz" for ending in _TEXT + _JSON_LINES), *_PARQUET, *_WORKBOOK)
_OTHERS = (".xls", ".xlsb", ".ods", ".numbers", ".json", ".feather", ".arrow", ".pkl", ".csv.zip", ".dta", ".rds")


def is_table(path: str | Path) -> bool:
    """Return whether a path is named like a table, including unsupported formats, and is not a folder."""
    return str(path).lower().endswith(_READ + _OTHERS) and not Path(path).is_dir()


def open_table(path: Path, known: Callable[[Sequence[str]], int]) -> Table:
    """Open a table.

    Args:
        path: Separated values or JSON lines (optionally gzipped), Parquet, or an Excel workbook.
        known: Counts the known names among column names, to detect the separator.

    Raises:
        UserError: If it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"No manifest {path}; check the path given as --data.root.")
    name = path.name.lower()
    if name.endswith(_PARQUET):
        return open_parquet(path)
    if name.endswith(_WORKBOOK):
        return open_workbook(path)
    name = name.removesuffix(".gz")
    if name.endswith(_JSON_LINES):
        return open_json_lines(path)
    if name.endswith(_TEXT):
        return open_text_table(path, known)
    raise UserError(f"{path} is not a supported table; save it as .csv. Supported are {', '.join(_READ)}.")
