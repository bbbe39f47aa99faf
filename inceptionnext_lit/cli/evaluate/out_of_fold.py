"""The predictions of a cross-validation for the images that each fold held back."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from inceptionnext_lit.cli.evaluate.candidates import load_candidates
from inceptionnext_lit.cli.evaluate.exports import ExportedTask
from inceptionnext_lit.console import progress_bar
from inceptionnext_lit.data.defaults import default_workers
from inceptionnext_lit.data.evaluation_set import evaluation_set
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.reports.evaluation.inference import predict_images
from inceptionnext_lit.reports.evaluation.predictions_file import default_suffix, write_predictions
from inceptionnext_lit.reports.evaluation.table import PredictionTable, concatenate

_BATCH_SIZE = 32


def write_out_of_fold(runs: Sequence[Path], folder: Path) -> Path:
    """Predict the held-back images of each fold with its best checkpoint, and write them as one table.

    Args:
        runs: Folders of the folds' runs, in order.
        folder: Where ``oof.parquet`` is written; ``oof.csv`` without pyarrow.

    Returns:
        The written file.

    Raises:
        UserError: If a checkpoint or its images cannot be read, or the file cannot be written.
    """
    path = folder / f"oof{default_suffix()}"
    with progress_bar() as bar:
        task = bar.add_task("predicting held-back images", total=len(runs))
        tables = []
        for fold, run in enumerate(runs):
            tables.append(_of_fold(run, fold))
            bar.advance(task)
    write_predictions(concatenate(tables), path)
    return path


def _of_fold(run: Path, fold: int) -> PredictionTable:
    [candidate] = load_candidates([str(run / "checkpoints/best.ckpt")])
    task = candidate.task
    assert not isinstance(task, ExportedTask)  # a checkpoint's
    settings, spec = candidate.run.settings, task.data_spec
    channels = len(spec.preprocessing["mean"]) if spec.preprocessing else 3
    columns = ColumnNames(settings.get("data.manifest.path_column"), settings.get("data.manifest.label_column"))
    root = ImageRoot(settings["data.root"], channels, spec.multi_label, columns, task.class_names)
    root.prepare()
    images = evaluation_set(root, task.class_names, "val", candidate.run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = predict_images(task, images, device=device, batch_size=_BATCH_SIZE, num_workers=default_workers())
    *_, table = found.tables.values()
    paths = [os.path.abspath(path) for path in table.paths]
    return replace(table, paths=paths, folds=torch.full((len(table),), fold).numpy())
