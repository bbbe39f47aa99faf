"""A checkpoint of a tiny segmentation model with random weights, as ``fit`` would save it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks.loading import load_segmentation_task
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO

INPUT = Preprocessing(image_size=32, crop_pct=1.0, interpolation="bilinear", mean=[0.5] * 3, std=[0.25] * 3)


def save_segmenter(path: Path, classes: Sequence[str], *, seed: int = 0, **arguments: Any) -> SegmentationTask:
    """Save a checkpoint, whose predictions have several classes, and return its task.

    Args:
        path: The file.
        classes: The class names.
        seed: Seed of the weights.
        **arguments: Further arguments of the task.
    """
    torch.manual_seed(seed)
    options = SegmentationOptions("semantic_fpn", decoder_kwargs={"width": 8, "head_width": 8})
    given = {"name": "inceptionnext_iso_micro", "segmentation": options} | arguments
    task = SegmentationTask(data_spec=DataSpec(list(classes), preprocessing=INPUT), **given)
    torch.nn.init.normal_(task.model.decoder.classifier[1].weight, 0, 3)
    if task.model_ema is not None:
        task.model_ema.set(task.model)
        with torch.no_grad():
            task.model_ema.module.decoder.classifier[1].weight.mul_(-1)
    run = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    run.strategy.checkpoint_io = SafeCheckpointIO()
    run.strategy.connect(task)
    path.parent.mkdir(parents=True, exist_ok=True)
    run.save_checkpoint(path)
    return load_segmentation_task(path)[0].eval()
