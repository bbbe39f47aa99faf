"""Write an evaluation of segmentation models into a folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.metrics import ratio
from inceptionnext_lit.reports.evaluation.predictions_file import utf8_text
from inceptionnext_lit.reports.evaluation.writing import CONFUSION, not_written, write_confusion, write_pages
from inceptionnext_lit.reports.segmentation.analysis import SceneAnalysis
from inceptionnext_lit.reports.segmentation.table import SceneTable
from inceptionnext_lit.safe_save import replacing

PER_IMAGE = "per_image"
Columns = dict[str, list[Any] | NDArray[Any]]


def write_scene_report(
    folder: Path, analyses: Sequence[SceneAnalysis], record: Mapping[str, Any], page: str, suffix: str
) -> list[Path]:
    """Write ``report.json``, ``index.html``, a row per image and the confusion matrix.

    The rows of further models are in ``per_image_2`` and so on.

    Args:
        folder: The folder, created if needed.
        analyses: The evaluations, the first model's first.
        record: Content of the JSON file.
        page: The page.
        suffix: ``.parquet`` or ``.csv``, for the rows.

    Returns:
        The written files.

    Raises:
        UserError: If one cannot be written.
    """
    paths = []
    try:
        for number, analysis in enumerate(analyses, start=1):
            paths.append(folder / f"{PER_IMAGE}{'' if number == 1 else f'_{number}'}{suffix}")
            write_images(analysis.table, paths[-1])
        paths.append(folder / CONFUSION)
        write_confusion(analyses[0].table.class_names, analyses[0].table.matrix, paths[-1])
        return paths + write_pages(folder, record, page)
    except OSError as error:
        raise not_written(folder, error) from error


def write_images(table: SceneTable, path: Path) -> None:
    """Write one row per image; values that are undefined are empty.

    The columns are ``path``, ``split`` if known, ``width``, ``height``, ``labeled`` (share of the pixels), ``mIoU``,
    ``accuracy``, ``loss``, ``boundary_f1`` for two classes, ``worst_class``, ``worst_class_IoU``, and for each class
    ``true_CLASS`` and ``predicted_CLASS``, its shares of the labeled pixels.

    Args:
        table: The predictions.
        path: The file, ``.parquet`` or ``.csv``.

    Raises:
        UserError: If Parquet is not available.
        OSError: If the file cannot be written.
    """
    columns = image_columns(table)
    try:
        with replacing(path) as target:
            (_write_parquet if path.suffix == ".parquet" else _write_csv)(columns, target)
    except ImportError as error:
        raise UserError(
            f"Writing {path} needs pyarrow; install it with pip install 'inceptionnext-lit[parquet]', or add "
            "--table csv."
        ) from error


def image_columns(table: SceneTable) -> Columns:
    """Return the columns of the table of images; see :func:`write_images`.

    Args:
        table: The predictions.
    """
    worst, rows = table.worst_class, np.arange(len(table))
    columns: Columns = {"path": list(table.paths)}
    if len(table.splits):
        columns["split"] = list(table.splits)
    columns |= {
        "width": table.sizes[:, 0],
        "height": table.sizes[:, 1],
        "labeled": table.labeled / table.sizes.prod(axis=1),
        "mIoU": table.mean_iou,
        "accuracy": table.accuracy,
        "loss": ratio(table.losses, table.labeled),
    }
    if table.boundary is not None:
        columns["boundary_f1"] = table.boundary
    columns["worst_class"] = [None if k < 0 else table.class_names[k] for k in worst.tolist()]
    columns["worst_class_IoU"] = np.where(worst < 0, np.nan, table.iou[rows, worst])
    for kind, counts in (("true", table.true), ("predicted", table.found)):
        shares = ratio(counts, table.labeled[:, None])
        columns |= {f"{kind}_{name}": shares[:, k] for k, name in enumerate(table.class_names)}
    return columns


def _write_csv(columns: Columns, target: Path) -> None:
    with target.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        cells = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
        for row in zip(*cells, strict=True):
            writer.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in row])


def _write_parquet(columns: Columns, target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    arrays = {
        utf8_text(name): pyarrow.array([utf8_text(value) for value in values])
        if isinstance(values, list)
        else pyarrow.array(values, from_pandas=True)  # NaN becomes null
        for name, values in columns.items()
    }
    parquet.write_table(pyarrow.table(arrays), target)
