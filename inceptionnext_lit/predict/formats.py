"""The file formats of predictions."""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.layout import Layout
from inceptionnext_lit.predict.tables import Row, RowFile, as_json, identity, json_lines, refuse_constant
from inceptionnext_lit.safe_save import replacing

FORMATS = (".csv", ".jsonl", ".json", ".parquet")
COLUMNS = ("path", "label", "probability", "top5")
_JSON = (".jsonl", ".json")
_GROWING = (".csv", ".jsonl")
_COMPARED = 4  # rows that are compared to check that a file comes from the same checkpoint
_ROUNDING = 1e-6  # of stored probabilities
_CHUNK = 16384  # most rows held in memory at a time, and per Parquet row group
_CELLS = 2**20  # most cells in them


class PredictionFile:
    """A file with rows of predictions, in any format.

    ``.csv`` and ``.jsonl`` are written incrementally. ``.json`` and ``.parquet`` are written at the end, from the rows
    in ``OUTPUT.partial.jsonl``, which is left behind if the run is killed.

    Attributes:
        count: Number of rows.
        unsure: Number of rows that are marked as unsure.
        first: For a resumed file, the best label of the first images and its probability, by their :func:`identity`.

    Args:
        output: The file.

    Raises:
        UserError: If the file has another suffix or is a folder, or Parquet is not available.
    """

    def __init__(self, output: str) -> None:
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
        self.count = self.unsure = 0
        self.first: dict[str, tuple[str, float]] = {}
        self.lay_out(Layout())

    def lay_out(self, layout: Layout) -> None:
        """Set which fields the rows have, before the first one is read or written; only JSON has lists of labels."""
        self._layout = layout if self._format in _JSON else replace(layout, lists_labels=False)
        self._rows = RowFile(self._growing, self._layout.columns if self._is_csv else self._layout.fields)

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

    def resume(self, class_names: Sequence[str], unsure_below: float | None = None) -> set[str]:
        """Continue the file of an earlier run.

        Args:
            class_names: The valid labels.
            unsure_below: The probability below which rows are marked as unsure.

        Returns:
            The :func:`identity` of each image that has a row.

        Raises:
            UserError: If the file does not contain predictions, or was written with other classes or options.
        """
        unpacks = self._growing != self.output and self.leftover is None and self.output.is_file()
        try:
            if unpacks:
                self._unpack()
            return self._read_rows(set(class_names), unsure_below)
        except UserError:
            if unpacks:
                self._growing.unlink(missing_ok=True)
            raise

    def _read_rows(self, known: set[str], unsure_below: float | None) -> set[str]:
        done = set()
        found = self._rows.stored_columns()
        self.lay_out(self._layout.of_file(found))
        if set(COLUMNS) <= set(found):
            self._layout.check(found, str(self.output))
        for row in self._rows.resume():
            top5 = json.loads(row["top5"]) if isinstance(row["top5"], str) else row["top5"]
            if unknown := [name for name in top5 if name not in known]:
                raise UserError(
                    f"{self.output} has the label {unknown[0]!r}, which this checkpoint does not know; continue with "
                    "the checkpoint that it was started with, or give another --output."
                )
            if "probabilities" in row:
                self._layout.check_classes(row["probabilities"], str(self.output))
            if unsure_below is not None:
                self._count_unsure(row, unsure_below)
            done.add(identity(row["path"]))
            if len(self.first) < _COMPARED:
                self.first[identity(row["path"])] = next(iter(top5.items()))
        self.count = len(done)
        return done

    def _count_unsure(self, row: Row, limit: float) -> None:
        """Count a row that is marked as unsure, and refuse one that was marked by another limit."""
        unsure, probability = row["unsure"] in (True, "true"), float(row["probability"])
        if (probability - limit if unsure else limit - probability) > _ROUNDING:
            raise UserError(
                f"{self.output} was started with another --unsure_below: {row['path']} has the probability "
                f"{probability:g} there and is {'' if unsure else 'not '}unsure; give the same value, or another "
                "--output."
            )
        self.unsure += unsure

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch's rows; raises as :meth:`RowFile.append`."""
        if rows:
            layout = self._layout
            cells = layout.cells if self._is_csv else lambda row: {name: row[name] for name in layout.fields}
            self._rows.append(list(map(cells, rows)))
            self.count += len(rows)
            self.unsure += sum(row.get("unsure", False) for row in rows)

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
                rows = RowFile(self._growing, self._layout.fields).resume()
                if self._format == ".parquet":
                    _write_parquet(rows, self._layout, target)
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

    def _unpack(self) -> None:
        """Convert a finished file back to a partial one."""
        with replacing(self._growing) as target, target.open("wb") as file:
            for rows in _chunks(_read(self.output, self._layout), _chunk(self._layout)):
                file.write(json_lines(rows))


def _chunk(layout: Layout) -> int:
    """Return how many rows are held in memory at a time."""
    return max(1, min(_CHUNK, _CELLS // len(layout.columns)))


def _read(path: Path, layout: Layout) -> Iterator[Row]:
    """Yield the rows of a finished ``.json`` or ``.parquet`` file."""
    try:
        if path.suffix.lower() == ".json":
            yield from json.loads(path.read_bytes(), parse_constant=refuse_constant)
            return
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            layout = layout.of_file(found)
            if set(COLUMNS) <= set(found):
                layout.check(found, str(path))
            names = {identity(name): name for name in layout.columns}
            for batch in file.iter_batches(_chunk(layout), columns=list(names)):
                for cells in batch.to_pylist():
                    row = layout.row({names[column]: value for column, value in cells.items()})
                    yield row | {"top5": json.loads(row["top5"])}
    except (ValueError, TypeError, KeyError) as error:  # includes pyarrow's errors
        raise UserError(f"{path} has no predictions; give another --output, or leave out --resume.") from error


def _write_array(rows: Iterable[Row], target: Path) -> None:
    """Write one JSON array, one row per line."""
    with target.open("wb") as file:
        separator = b"[\n"
        for row in rows:
            file.write(separator + b" " + json_lines([row]).rstrip(b"\n"))
            separator = b",\n"
        file.write(b"\n]\n")


def _write_parquet(rows: Iterable[Row], layout: Layout, target: Path) -> None:
    """Write Parquet in row groups, with ``top5`` as a JSON object like in CSV, and all probabilities as float32."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    types = {"path": text, "label": text, "probability": pyarrow.float64(), "top5": text, "words": text}
    types["unsure"] = pyarrow.bool_()
    schema = pyarrow.schema([(identity(name), types.get(name, pyarrow.float32())) for name in layout.columns])
    with parquet.ParquetWriter(target, schema) as writer:
        for chunk in _chunks(rows, _chunk(layout)):
            cells = [layout.cells(row | {"top5": as_json(row["top5"])}) for row in chunk]
            columns = {
                identity(name): [identity(one[name]) if types.get(name) is text else one[name] for one in cells]
                for name in layout.columns
            }
            writer.write_table(pyarrow.table(columns, schema))


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk
