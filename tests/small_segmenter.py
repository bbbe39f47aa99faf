"""A checkpoint of a tiny segmentation model with random weights, as ``fit`` would save it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import SegmentationTask
from inceptionnext_lit.tasks.loading import load_segmentation_task
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO

CLASSES = ["background", "cat", 'dog, "big"']
PALETTE = [[0, 0, 0], [250, 0, 0], [0, 200, 100]]
INPUT = Preprocessing(image_size=64, crop_pct=1.0, interpolation="bilinear", mean=[0.5] * 3, std=[0.25] * 3)


def save_segmenter(
    path: Path,
    *,
    classes: list[str] = CLASSES,
    preprocessing: Mapping[str, Any] = INPUT,
    options: SegmentationOptions | None = None,
    name: str = "inceptionnext_iso_micro",
    seed: int = 0,
    **arguments: Any,
) -> SegmentationTask:
    """Save a checkpoint, whose images have pixels of several classes, and return its task.

    Args:
        path: The file.
        classes: The class names.
        preprocessing: What differs from :data:`INPUT`.
        options: Options of the task.
        name: The backbone.
        seed: Seed of the weights.
        **arguments: Further arguments of the task.
    """
    torch.manual_seed(seed)
    palette = [PALETTE[place % 3] for place in range(len(classes))]
    spec = DataSpec(classes, len(classes), False, cast(Preprocessing, {**INPUT, **preprocessing}), palette)
    decoder = SegmentationOptions(decoder="semantic_fpn", decoder_kwargs={"width": 16, "head_width": 8})
    task = SegmentationTask(name, data_spec=spec, segmentation=options or decoder, **arguments)
    for module in task.model.modules():  # random weights of the usual size give all pixels nearly the same logits
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == len(classes):
            torch.nn.init.normal_(module.weight, 0, 30)
    if task.model_ema is not None:
        task.model_ema.set(task.model)
    run = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    run.strategy.checkpoint_io = SafeCheckpointIO()
    run.strategy.connect(task)
    run.save_checkpoint(path)
    return load_segmentation_task(path)[0].eval()


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture of colored spots."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def write_photos(folder: Path) -> Path:
    """Write three pictures of other sizes, and one of a single pixel, into a new folder; return it."""
    folder.mkdir()
    for place, (height, width) in enumerate([(64, 64), (50, 90), (200, 150)]):
        picture(height, width, place).save(folder / f"{place}.png")
    picture(1, 1).save(folder / "tiny.png")
    return folder
