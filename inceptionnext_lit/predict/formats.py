"""The formats in which predictions are written."""

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
_COMPARED = 4  # rows by which a file is known to be of the same checkpoint
_CHUNK = 16384  # rows that are held at a time, and of a row group of Parquet


class PredictionFile:
    """Rows of predictions in a file of any format.

    ``.csv`` and ``.jsonl`` grow under their final name. A ``.json`` array and ``.parquet`` are written in the end, from
    the rows in ``OUTPUT.partial.jsonl``, which a killed run leaves behind.

    Attributes:
        count: How many rows there are.
        first: Of a file that is gone on with, the best label of the first images with its probability, by their
            :func:`identity`.

    Args:
        output: The file.

    Raises:
        UserError: If its ending is another, it is a folder, or Parquet cannot be written here.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output).expanduser()
        self._format = self.output.suffix.lower()
        if self._format not in FORMATS:
            raise UserError(f"--output is {output}; it must end in .csv, .jsonl, .json or .parquet.")
        if self.output.is_dir():
            raise UserError(f"--output is {output}, a folder; name a file in it.")
        if self._format == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            raise UserError(f"Writing {output} needs a package that is not there: pip install pyarrow.")
        growing = (
            self.output if self._format in _GROWING else self.output.with_name(f"{self.output.name}.partial.jsonl")
        )
        self._rows = RowFile(growing, COLUMNS)
        self.count = 0
        self.first: dict[str, tuple[str, float]] = {}

    @property
    def existing(self) -> Path | None:
        """What is there already of the output: the file, or what a killed run has left beside it."""
        return self.output if self.output.is_file() else self.leftover

    @property
    def leftover(self) -> Path | None:
        """What a killed run has left beside the output."""
        partial = self._rows.path
        return partial if partial != self.output and partial.is_file() else None

    def resume(self, class_names: Sequence[str]) -> set[str]:
        """Go on with what an earlier run has written.

        Args:
            class_names: What labels may be.

        Returns:
            The :func:`identity` of every image that has a row.

        Raises:
            UserError: If the file is none of predictions, or was written with other classes.
        """
        known, done = set(class_names), set()
        if self._rows.path != self.output and self.leftover is None and self.output.is_file():
            self._unpack()
        for row in self._rows.resume():
            top5 = json.loads(row["top5"]) if isinstance(row["top5"], str) else row["top5"]
            if foreign := [name for name in top5 if name not in known]:
                raise UserError(
                    f"{self.output} has the label {foreign[0]!r}, which this checkpoint does not know; go on with the "
                    "checkpoint that it was begun with, or give another --output."
                )
            done.add(identity(row["path"]))
            if len(self.first) < _COMPARED:
                self.first[identity(row["path"])] = next(iter(top5.items()))
        self.count = len(done)
        return done

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch's rows; raises like :meth:`RowFile.append`."""
        if rows:
            self._rows.append(rows)
            self.count += len(rows)

    def finish(self) -> None:
        """Close the file, and make the final one where that is another.

        Raises:
            UserError: If that cannot be written; the rows are then still in the partial file.
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
                f"{self._rows.path}; mend that, then go on with --resume."
            ) from error
        self._rows.path.unlink()

    def close(self) -> None:
        """Close the file as it is."""
        self._rows.close()

    def _unpack(self) -> None:
        """Turn a finished file into a partial one again."""
        with replacing(self._rows.path) as target, target.open("wb") as file:
            for rows in _chunks(_read(self.output)):
                file.write(json_lines(rows))


def identity(path: str) -> str:
    """What a path is compared by; also its text in Parquet, which takes UTF-8 alone: other bytes are escaped."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()


def _read(path: Path) -> Iterator[Row]:
    """The rows of a finished ``.json`` or ``.parquet`` file."""
    try:
        if path.suffix.lower() == ".json":
            yield from json.loads(path.read_bytes(), parse_constant=refuse_constant)
            return
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_CHUNK, columns=list(COLUMNS)):
                yield from (row | {"top5": json.loads(row["top5"])} for row in batch.to_pylist())
    except (ValueError, TypeError, KeyError) as error:  # of which pyarrow's errors are
        raise UserError(f"{path} holds no predictions; give another --output, or leave out --resume.") from error


def _write_array(rows: Iterable[Row], target: Path) -> None:
    """Write one JSON array, a row a line."""
    with target.open("wb") as file:
        separator = b"[\n"
        for row in rows:
            file.write(separator + b" " + json_lines([row]).rstrip(b"\n"))
            separator = b",\n"
        file.write(b"\n]\n")


def _write_parquet(rows: Iterable[Row], target: Path) -> None:
    """Write Parquet in row groups; ``top5`` is a JSON object as in CSV."""
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
