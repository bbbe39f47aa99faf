"""A checkpoint of a tiny classifier with random weights, as ``fit`` would save it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.loading import load_task
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO

INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.25] * 3)


def save_checkpoint(
    path: Path,
    classes: list[str],
    *,
    multi_label: bool = False,
    calibration: object = None,
    preprocessing: Mapping[str, Any] = INPUT,
    name: str = "inceptionnext_iso_micro",
    **arguments: Any,
) -> ClassificationTask:
    """Save a checkpoint, whose images get clearly different probabilities, and return its task.

    Args:
        path: The file.
        classes: The class names.
        multi_label: Whether an image may have several labels.
        calibration: What the checkpoint has under ``calibration``, if anything.
        preprocessing: What differs from :data:`INPUT`.
        name: The model.
        **arguments: Further arguments of the task.
    """
    torch.manual_seed(0)
    spec = DataSpec(classes, len(classes), multi_label, cast(Preprocessing, {**INPUT, **preprocessing}))
    task = ClassificationTask(name, data_spec=spec, **arguments)
    torch.nn.init.normal_(task.model.get_classifier().weight, 0, 0.7)
    if task.model_ema is not None:
        task.model_ema.set(task.model)
    run = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    run.strategy.checkpoint_io = SafeCheckpointIO()
    run.strategy.connect(task)
    run.save_checkpoint(path)
    if calibration is not None:
        torch.save(torch.load(path, weights_only=True) | {"calibration": calibration}, path)
        return task.eval()
    return load_task(path)[0].eval()
