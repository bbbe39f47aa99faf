"""Tables of predictions with the probability of every class, as CSV or Parquet."""

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.cells import whole_numbers
from inceptionnext_lit.data.tables import Table, open_table
from inceptionnext_lit.data_spec import PROBABILITY_PREFIX as PREFIX
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.table import Floats, PredictionTable
from inceptionnext_lit.safe_save import replacing

SUFFIXES = (".parquet", ".csv")
_PREFIXES = (PREFIX, "p_", "probability_", "probability of ", "")
_PATHS = ("path", "filename", "file", "image", "image_path", "filepath", "id")
_TRUE = ("true_label", "true_labels", "label", "target", "given_label", "true", "y_true", "class")
_KNOWN = ("rank", "loss", "predicted_label", "predicted_labels", "split", "group", "fold", "__index_level_0__")
_TINY = np.finfo(np.float32).tiny
_TOLERANCE = 0.01  # of a sum of probabilities
_ROUNDING = 1e-6  # above 1


def default_suffix() -> str:
    """Return ``.parquet`` if pyarrow is installed, else ``.csv``."""
    return SUFFIXES[importlib.util.find_spec("pyarrow") is None]


def write_predictions(table: PredictionTable, path: Path) -> None:
    """Write one row per image: ``path``, labels, ``rank``, ``loss``, and ``prob_CLASS`` for every class.

    ``split``, ``group`` and ``fold`` follow the path if they are known. With one label per image there are
    ``true_label``, ``predicted_label`` and the ``rank`` of the true class; with several ``true_labels`` and
    ``predicted_labels``, which are lists in Parquet and joined by ``|`` in CSV. Probabilities and losses have full
    precision.

    Args:
        table: The predictions.
        path: The file, ``.parquet`` or ``.csv``.

    Raises:
        UserError: If Parquet is not available, or the file cannot be written.
    """
    columns = _columns(table)
    try:
        with replacing(path) as target:
            (_write_parquet if path.suffix.lower() == ".parquet" else _write_csv)(table, columns, target)
    except ImportError as error:
        raise UserError(
            f"Writing {path} needs pyarrow; install it with pip install 'inceptionnext-lit[parquet]', or write .csv."
        ) from error
    except OSError as error:
        raise UserError(f"The predictions could not be written to {path}: {error.strerror or error}.") from error


def _columns(table: PredictionTable) -> dict[str, Any]:
    names = table.class_names
    columns: dict[str, Any] = {"path": list(table.paths)}
    if len(table.splits):
        columns["split"] = list(table.splits)
    if table.groups is not None:
        columns["group"] = list(table.groups)
    if table.folds is not None:
        columns["fold"] = table.folds
    if table.multi_label:
        for name, chosen in (("true_labels", table.labels), ("predicted_labels", table.present)):
            columns[name] = [[names[k] for k in np.flatnonzero(row).tolist()] for row in chosen]
    else:
        columns["true_label"] = [names[k] for k in table.labels.tolist()]
        columns["predicted_label"] = [names[k] for k in table.predicted.tolist()]
        columns["rank"] = table.ranks
    return columns | {"loss": table.losses}


def _write_csv(table: PredictionTable, columns: dict[str, Any], target: Path) -> None:
    with target.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(f"{PREFIX}{name}" for name in table.class_names)])
        cells = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        for row, probabilities in zip(zip(*cells, strict=True), table.probabilities, strict=True):
            texts = ["|".join(cell) if isinstance(cell, list) else cell for cell in row]
            writer.writerow([*texts, *map(str, probabilities)])  # a float32's shortest exact form


def _write_parquet(table: PredictionTable, columns: dict[str, Any], target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    plain = {
        name: [_text(value) for value in values] if isinstance(values, list) else values
        for name, values in columns.items()
    }
    probabilities = {
        f"{PREFIX}{_text(name)}": np.ascontiguousarray(table.probabilities[:, k])
        for k, name in enumerate(table.class_names)
    }
    parquet.write_table(pyarrow.table(plain | probabilities), target)


def _text(value: Any) -> Any:
    """Escape bytes that are not UTF-8, which Parquet cannot store."""
    if isinstance(value, list):
        return [_text(one) for one in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def read_predictions(path: Path) -> PredictionTable:
    """Read a table of predictions, also one of another tool.

    It needs a column of true labels (``true_label``, ``label``, ``target`` …) and one of probabilities for every class,
    named like the class, with or without a prefix such as ``prob_``. Columns ``path``, ``split``, ``group`` and
    ``fold`` are used if there are any; others become properties that the report divides the images by.

    Args:
        path: The file: Parquet, separated values, JSON lines or an Excel workbook.

    Raises:
        UserError: If it cannot be read, lacks a column, or has probabilities that are not such.
    """
    table = open_table(path, lambda names: sum(name in _PATHS + _TRUE for name in names))
    names = [name.strip() for name in table.names]
    true = _named(names, _TRUE)
    if true is None:
        raise UserError(f"{path} has no column of true labels; name it true_label. Its columns are {_few(names)}.")
    rows, [read] = table.read([true])
    cells = whole_numbers(read)  # pandas writes 1.0 for 1 if a cell is empty
    if not rows:
        raise UserError(f"{path} has no rows.")
    several = names[true] == "true_labels" or any(isinstance(cell, tuple) for cell in cells)
    labels = [_labels(cell, several=several) for cell in cells]
    if not several and (empty := [row for row, label in zip(rows, labels, strict=True) if not label[0]]):
        raise UserError(f"Row {empty[0]} of {path} has no label in {names[true]}; fill it in, or remove the row.")
    used = sorted({label for of_row in labels for label in of_row})
    prefix, classes = _classes(path, names, used, exclude={names[true]})
    values = _probabilities(path, table, rows, [names.index(f"{prefix}{name}") for name in classes])
    if not prefix and not several and not _add_up(values).all():  # classes without images cannot be told by a prefix
        more = [name for name in names if name not in {*classes, *_KNOWN} and name.lower() not in _PATHS + _TRUE]
        classes = [name for name in names if name in {*classes, *more}]
        values = _probabilities(path, table, rows, [names.index(name) for name in classes])
    index = {name: k for k, name in enumerate(classes)}
    taken = {names[true], *(f"{prefix}{name}" for name in classes), *_KNOWN} - {"split", "group", "fold"}
    others = _others(table, names, taken)
    split, group, fold = (others.pop(name, None) for name in ("split", "group", "fold"))
    place = _named(names, _PATHS)
    paths = [f"row {row}" for row in rows] if place is None else _resolved(path, others.pop(names[place]))
    return PredictionTable(
        classes,
        paths,
        _multi_hot(labels, index) if several else np.array([index[of_row[0]] for of_row in labels], dtype=np.int64),
        _log_odds(values) if several else _log_probabilities(path, rows, values),
        split or (),
        group,
        None if fold is None else np.unique(np.array(fold), return_inverse=True)[1].astype(np.int64),
        columns={name: _numbers_or_text(column) for name, column in others.items()},
    )


def _named(names: Sequence[str], known: Sequence[str]) -> int | None:
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in known if name in lowered), None)


def _labels(cell: Any, *, several: bool) -> tuple[str, ...]:
    if isinstance(cell, tuple):
        return cell
    return tuple(part.strip() for part in cell.split("|") if part.strip()) if several else (cell.strip(),)


def _classes(path: Path, names: list[str], used: list[str], exclude: set[str]) -> tuple[str, list[str]]:
    """Return the prefix of the columns of probabilities, and the classes in the order of the columns."""
    for prefix in _PREFIXES:
        if used and all(f"{prefix}{label}" in names for label in used):
            # without a prefix, other columns cannot be told from classes without images
            others = [name.removeprefix(prefix) for name in names if name.startswith(prefix) and name not in exclude]
            return prefix, others if prefix else [name for name in names if name in used]
    missing = [label for label in used if f"{PREFIX}{label}" not in names]
    raise UserError(
        f"{path} has no probability for the label {enumerate_names(missing[:3])}; it needs a column {PREFIX}LABEL for "
        f"every label. Its columns are {_few(names)}."
    )


def _probabilities(path: Path, table: Table, rows: Sequence[int], places: list[int]) -> Floats:
    """Return the probabilities in columns, float32 (N, K)."""
    values = np.empty((len(rows), len(places)), dtype=np.float32)
    for k, (place, column) in enumerate(zip(places, _columns_of_numbers(path, table, rows, places), strict=True)):
        bad = np.flatnonzero(~((column >= 0) & (column <= 1 + _ROUNDING)))
        if len(bad):
            raise UserError(
                f"Row {rows[bad[0]]} of {path} has {column[bad[0]]:g} in {table.names[place]}, which is not a "
                "probability from 0 to 1; give probabilities, not logits or percent."
            )
        values[:, k] = column
    return values


def _columns_of_numbers(
    path: Path, table: Table, rows: Sequence[int], places: list[int]
) -> Iterator[NDArray[np.float64]]:
    """Yield columns as numbers; those of Parquet are not turned into text, of which a large table has too much."""
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet  # the table has been opened with it

        with parquet.ParquetFile(path) as file:
            if all(_is_number(file.schema_arrow.field(place).type) for place in places):
                for place in places:
                    column = file.read(columns=[table.names[place]]).column(0)
                    yield column.to_numpy().astype(np.float64)
                return
    _, columns = table.read(places)
    for place, cells in zip(places, columns, strict=True):
        values = np.empty(len(rows))
        for i, cell in enumerate(cells):
            try:
                values[i] = float(cell)  # type: ignore[arg-type]  # a list is refused as well
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"Row {rows[i]} of {path} has {cell!r} in {table.names[place]}, which is not a number."
                ) from error
        yield values


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind))


def _log_probabilities(path: Path, rows: Sequence[int], values: Floats) -> Floats:
    if len(bad := np.flatnonzero(~_add_up(values))):
        raise UserError(
            f"The probabilities in row {rows[bad[0]]} of {path} add up to {values[bad[0]].sum():.4g}, not 1; all "
            "classes need a column."
        )
    return np.log(np.maximum(values, _TINY))


def _add_up(values: Floats) -> NDArray[np.bool_]:
    """Return whether the probabilities of each image add up to 1."""
    right: NDArray[np.bool_] = np.abs(values.sum(axis=1, dtype=np.float64) - 1) <= _TOLERANCE
    return right


def _log_odds(values: Floats) -> Floats:
    exact = values.astype(np.float64)
    odds = np.log(np.maximum(exact, _TINY)) - np.log(np.maximum(1 - exact, _TINY))
    return odds.astype(np.float32)


def _multi_hot(labels: list[tuple[str, ...]], index: dict[str, int]) -> NDArray[np.bool_]:
    vectors = np.zeros((len(labels), len(index)), dtype=bool)
    for row, of_row in enumerate(labels):
        vectors[row, [index[label] for label in of_row]] = True
    return vectors


def _others(table: Any, names: list[str], taken: set[str]) -> dict[str, list[str]]:
    places = [place for place, name in enumerate(names) if name and name not in taken]
    _, columns = table.read(places)
    return {
        names[place]: ["|".join(cell) if isinstance(cell, tuple) else cell for cell in column]
        for place, column in zip(places, columns, strict=True)
    }


def _resolved(table: Path, paths: list[str]) -> list[str]:
    """Return the paths as written, or next to the table if they are there."""
    return [
        path if Path(path).is_file() or not (table.parent / path).is_file() else str(table.parent / path)
        for path in paths
    ]


def _numbers_or_text(texts: list[str]) -> list[str] | NDArray[np.float64]:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return texts


def _few(names: Sequence[str]) -> str:
    return enumerate_names(list(names), 10)
