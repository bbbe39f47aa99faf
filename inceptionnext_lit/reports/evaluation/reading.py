"""Read tables of predictions with the probability of every class, ours or those of other tools."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.cells import whole_numbers
from inceptionnext_lit.data.tables import Table, open_table
from inceptionnext_lit.data_spec import PROBABILITY_PREFIX
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.table import Floats, PredictionTable
from inceptionnext_lit.wording import did_you_mean

_PREFIXES = (PROBABILITY_PREFIX, "p_", "probability_", "probability of ", "")
_PATHS = ("path", "filename", "file", "image", "image_path", "filepath", "id")
_TRUE = ("true_label", "true_labels", "target", "y_true", "given_label", "true", "label", "class")
_OF_PREDICT = ("label", "probability", "top5")  # predict's columns: its labels are predictions
_KNOWN = ("rank", "loss", "predicted_label", "predicted_labels", "split", "group", "fold", "__index_level_0__", "words")
_TINY = np.finfo(np.float32).tiny
_TOLERANCE, _MOST_OFF = 0.0051, 0.05  # of a sum of probabilities: per class, and in all
_EXACT = 1e-4  # of a sum of probabilities in single precision
_ROUNDING = 1e-6  # above 1


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
    if not path.is_file():
        raise UserError(f"No table of predictions at {path}; check the path.")
    table = open_table(path, lambda names: sum(name in _PATHS + _TRUE for name in names))
    names = [name.strip() for name in table.names]
    true = _named(names, _TRUE)
    if set(_OF_PREDICT) <= set(names) and (true is None or names[true] == "label"):
        raise UserError(
            f"{path} is a table of predict, whose labels are predictions; add a column true_label, or evaluate the "
            "checkpoint on labeled images."
        )
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
    _check_distinct(path, rows, paths)
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


def _check_distinct(path: Path, rows: Sequence[int], images: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for row, image in zip(rows, images, strict=True):
        if (earlier := seen.setdefault(image, row)) != row:
            raise UserError(f"Rows {earlier} and {row} of {path} both name {image}; give each image one row.")


def _named(names: Sequence[str], known: Sequence[str]) -> int | None:
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in known if name in lowered), None)


def _labels(cell: Any, *, several: bool) -> tuple[str, ...]:
    if isinstance(cell, tuple):
        return cell
    return tuple(part.strip() for part in cell.split("|") if part.strip()) if several else (cell.strip(),)


def _classes(path: Path, names: list[str], used: list[str], exclude: set[str]) -> tuple[str, list[str]]:
    """Return the prefix of the columns of probabilities, and the classes in the order of the columns."""
    missing = {prefix: [label for label in used if f"{prefix}{label}" not in names] for prefix in _PREFIXES}
    prefix = min(_PREFIXES, key=lambda one: len(missing[one]))
    if missing[prefix]:
        wanted = f"{prefix if len(missing[prefix]) < len(used) else PROBABILITY_PREFIX}{missing[prefix][0]}"
        near = did_you_mean(wanted, names, otherwise=f"the columns are {_few(names)}.")
        raise UserError(
            f"{path} has no column {wanted!r} with the probability of the label {missing[prefix][0]!r}; {near}"
        )
    # without a prefix, other columns cannot be told from classes without images
    others = [name.removeprefix(prefix) for name in names if name.startswith(prefix) and name not in exclude]
    return prefix, others if prefix else [name for name in names if name in used]


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
                text = cell.replace(",", ".") if isinstance(cell, str) else cell  # a decimal comma
                values[i] = float(text)  # type: ignore[arg-type]  # a list is refused as well
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
            f"The probabilities in row {rows[bad[0]]} of {path} add up to {values[bad[0]].sum():.4g}, not 1; "
            "every class needs a column, and probabilities more digits."
        )
    sums = values.sum(axis=1, dtype=np.float64)
    if np.abs(sums - 1).max() > _EXACT:  # they were rounded
        values = (values / sums[:, None]).astype(np.float32)
    return np.log(np.maximum(values, _TINY))


def _add_up(values: Floats) -> NDArray[np.bool_]:
    """Return whether the probabilities of each image add up to 1."""
    tolerance = min(_TOLERANCE * values.shape[1], _MOST_OFF)  # each may be rounded to two digits
    right: NDArray[np.bool_] = np.abs(values.sum(axis=1, dtype=np.float64) - 1) <= tolerance
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
