"""Write tables of predictions with the probability of every class, as CSV or Parquet."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from inceptionnext_lit.data_spec import PROBABILITY_PREFIX
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from inceptionnext_lit.safe_save import replacing

SUFFIXES = (".parquet", ".csv")


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
        writer.writerow([*columns, *(f"{PROBABILITY_PREFIX}{name}" for name in table.class_names)])
        cells = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        for row, probabilities in zip(zip(*cells, strict=True), table.probabilities, strict=True):
            texts = ["|".join(cell) if isinstance(cell, list) else cell for cell in row]
            writer.writerow([*texts, *map(str, probabilities)])  # a float32's shortest exact form


def _write_parquet(table: PredictionTable, columns: dict[str, Any], target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    plain = {
        name: [utf8_text(value) for value in values] if isinstance(values, list) else values
        for name, values in columns.items()
    }
    probabilities = {
        f"{PROBABILITY_PREFIX}{utf8_text(name)}": np.ascontiguousarray(table.probabilities[:, k])
        for k, name in enumerate(table.class_names)
    }
    parquet.write_table(pyarrow.table(plain | probabilities), target)


def utf8_text(value: Any) -> Any:
    """Return text, or a list of texts, with bytes that are not UTF-8 escaped, which Parquet cannot store."""
    if isinstance(value, list):
        return [utf8_text(one) for one in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
