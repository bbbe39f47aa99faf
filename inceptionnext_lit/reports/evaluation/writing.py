"""Write an evaluation into a folder."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.analysis import Analysis, SingleLabelDetails
from inceptionnext_lit.reports.evaluation.predictions_file import write_predictions
from inceptionnext_lit.safe_save import obstacle, replacing

REPORT, PAGE, CONFUSION = "report.json", "index.html", "confusion.csv"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse an unsuitable output folder before anything is computed.

    Args:
        folder: The folder, which need not exist.
        overwrite: Whether an earlier report in it may be replaced.

    Raises:
        UserError: If it contains a report, is a file, or cannot be written.
    """
    if folder.suffix.lower() in (".html", ".json"):
        raise UserError(f"--output is {folder}; give a folder, in which {PAGE} and {REPORT} are written.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output is {folder}, a file; give a folder.")
    if any((folder / name).exists() for name in (REPORT, PAGE)) and not overwrite:
        raise UserError(f"{folder} already has a report; add --overwrite to replace it, or give another --output.")
    if (code := obstacle(folder / REPORT)) is not None:
        raise UserError(f"The report cannot be written to {folder}: {os.strerror(code)}; give another --output.")


def write_report(
    folder: Path, analyses: Sequence[Analysis], record: Mapping[str, Any], page: str, suffix: str
) -> list[Path]:
    """Write ``report.json``, ``index.html``, the predictions and the confusion matrix.

    The predictions of further models are in ``predictions_2`` and so on.

    Args:
        folder: The folder, created if needed.
        analyses: The evaluations, the first model's first.
        record: Content of the JSON file.
        page: The page.
        suffix: ``.parquet`` or ``.csv``, for the predictions.

    Returns:
        The written files.

    Raises:
        UserError: If one cannot be written.
    """
    paths = []
    try:
        for number, analysis in enumerate(analyses, start=1):
            paths.append(folder / f"predictions{'' if number == 1 else f'_{number}'}{suffix}")
            write_predictions(analysis.table, paths[-1])
        if isinstance(analyses[0].details, SingleLabelDetails):
            paths.append(folder / CONFUSION)
            write_confusion(analyses[0].table.class_names, analyses[0].details.confusion.matrix, paths[-1])
        paths += write_pages(folder, record, page)
    except OSError as error:
        raise not_written(folder, error) from error
    return paths


def write_pages(folder: Path, record: Mapping[str, Any], page: str) -> list[Path]:
    """Write ``report.json`` and ``index.html``.

    Args:
        folder: The folder, created if needed.
        record: Content of the JSON file.
        page: The page.

    Returns:
        The written files.
    """
    with replacing(folder / REPORT) as target:
        target.write_text(_json(record), encoding="utf-8", errors="surrogateescape")
    with replacing(folder / PAGE) as target:
        target.write_text(page, encoding="utf-8")
    return [folder / REPORT, folder / PAGE]


def not_written(folder: Path, error: OSError) -> UserError:
    """Return the error of a report that could not be written."""
    return UserError(f"The report cannot be written to {folder}: {error.strerror or error}.")


def write_confusion(names: Sequence[str], matrix: NDArray[np.int64], path: Path) -> None:
    """Write a confusion matrix (K, K) as CSV, a row for each true class.

    Args:
        names: The class names.
        matrix: The matrix.
        path: The file.
    """
    with (
        replacing(path) as target,
        target.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["true class", *names])
        for name, row in zip(names, matrix.tolist(), strict=True):
            writer.writerow([name, *row])


def _json(record: Mapping[str, Any]) -> str:
    """Return a JSON object with one line for each key, so that it can be read and large tables stay small."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in record.items()]
    return "{\n" + ",\n".join(f" {line}" for line in lines) + "\n}\n"
