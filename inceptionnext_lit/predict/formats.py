"""The file formats of predictions."""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.tables import Row, RowFile, as_json, json_lines, refuse_constant
from inceptionnext_lit.safe_save import replacing

FORMATS = (".csv", ".jsonl", ".json", ".parquet")
COLUMNS = ("path", "label", "probability", "top5")
_GROWING = (".csv", ".jsonl")
_COMPARED = 4  # rows that are compared to check that a file comes from the same checkpoint
_CHUNK = 16384  # rows held in memory at a time, and rows per Parquet row group


class PredictionFile:
    """A file with rows of predictions, in any format.

    ``.csv`` and ``.jsonl`` are written incrementally. ``.json`` and ``.parquet`` are written at the end, from the rows
    in ``OUTPUT.partial.jsonl``, which is left behind if the run is killed.

    Attributes:
        count: Number of rows.
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
        growing = (
            self.output if self._format in _GROWING else self.output.with_name(f"{self.output.name}.partial.jsonl")
        )
        self._rows = RowFile(growing, COLUMNS)
        self.count = 0
        self.first: dict[str, tuple[str, float]] = {}

    @property
    def existing(self) -> Path | None:
        """The output if it exists, or the partial file of a killed run."""
        return self.output if self.output.is_file() else self.leftover

    @property
    def leftover(self) -> Path | None:
        """The partial file that a killed run has left next to the output."""
        partial = self._rows.path
        return partial if partial != self.output and partial.is_file() else None

    def resume(self, class_names: Sequence[str]) -> set[str]:
        """Continue the file of an earlier run.

        Args:
            class_names: The valid labels.

        Returns:
            The :func:`identity` of each image that has a row.

        Raises:
            UserError: If the file does not contain predictions, or was written with other classes.
        """
        known, done = set(class_names), set()
        if self._rows.path != self.output and self.leftover is None and self.output.is_file():
            self._unpack()
        for row in self._rows.resume():
            top5 = json.loads(row["top5"]) if isinstance(row["top5"], str) else row["top5"]
            if unknown := [name for name in top5 if name not in known]:
                raise UserError(
                    f"{self.output} has the label {unknown[0]!r}, which this checkpoint does not know; continue with "
                    "the checkpoint that it was started with, or give another --output."
                )
            done.add(identity(row["path"]))
            if len(self.first) < _COMPARED:
                self.first[identity(row["path"])] = next(iter(top5.items()))
        self.count = len(done)
        return done

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch's rows; raises as :meth:`RowFile.append`."""
        if rows:
            self._rows.append(rows)
            self.count += len(rows)

    def finish(self) -> None:
        """Close the file, and write the final one if it is another.

        Raises:
            UserError: If it cannot be written; the rows then remain in the partial file.
        """
        self._rows.close()
        if self.leftover is None:
            return
        try:
            with replacing(self.output) as target:
                rows = RowFile(self._rows.path, COLUMNS).resume()
                (_write_parquet if self._format == ".parquet" else _write_array)(rows, target)
        except OSError as error:
            raise UserError(
                f"The predictions could not be written to {self.output}: {error.strerror}. They are kept in "
                f"{self._rows.path}; fix that, then continue with --resume."
            ) from error
        self._rows.path.unlink()

    def close(self) -> None:
        """Close the file without writing the final one."""
        self._rows.close()

    def _unpack(self) -> None:
        """Convert a finished file back to a partial one."""
        with replacing(self._rows.path) as target, target.open("wb") as file:
            for rows in _chunks(_read(self.output)):
                file.write(json_lines(rows))


def identity(path: str) -> str:
    """Return a path in comparable form, also used in Parquet: bytes that are not UTF-8 are escaped."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()


def _read(path: Path) -> Iterator[Row]:
    """Yield the rows of a finished ``.json`` or ``.parquet`` file."""
    try:
        if path.suffix.lower() == ".json":
            yield from json.loads(path.read_bytes(), parse_constant=refuse_constant)
            return
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_CHUNK, columns=list(COLUMNS)):
                yield from (row | {"top5": json.loads(row["top5"])} for row in batch.to_pylist())
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


def _write_parquet(rows: Iterable[Row], target: Path) -> None:
    """Write Parquet in row groups, with ``top5`` as a JSON object like in CSV."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    schema = pyarrow.schema([("path", text), ("label", text), ("probability", pyarrow.float64()), ("top5", text)])
    with parquet.ParquetWriter(target, schema) as writer:
        for chunk in _chunks(rows):
            columns = {
                "path": [identity(row["path"]) for row in chunk],
                "label": [identity(row["label"]) for row in chunk],
                "probability": [row["probability"] for row in chunk],
                "top5": [identity(as_json(row["top5"])) for row in chunk],
            }
            writer.write_table(pyarrow.table(columns, schema))


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk
