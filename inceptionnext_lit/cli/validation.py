"""Choose the images before an evaluation, and print the metrics after it."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from inceptionnext_lit.cli.runs.latest_run import say
from inceptionnext_lit.data.base import BaseDataModule
from inceptionnext_lit.reports.evaluation.lines import evaluation_lines
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA
from inceptionnext_lit.training.callbacks.settings import KEY as RUN


def announce(datamodule: LightningDataModule, stage: str) -> None:
    """Print which images a stage uses, and which are left out.

    Args:
        datamodule: The data, set up for the stage.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    if isinstance(datamodule, BaseDataModule):
        for line in datamodule.describe(stage):
            say(line)


def begin_evaluation(
    datamodule: LightningDataModule, trainer: Trainer, checkpoint: Mapping[str, Any], stage: str
) -> None:
    """Choose the images to evaluate a checkpoint on, and print which they are.

    Args:
        datamodule: The data.
        trainer: The trainer that evaluates.
        checkpoint: The checkpoint, with its run's settings and the fingerprint of its images.
        stage: ``validate`` or ``test``.
    """
    datamodule.trainer = trainer
    if isinstance(datamodule, BaseDataModule):
        datamodule.evaluates_run(checkpoint.get(RUN, {}), checkpoint.get(DATA, {}))
    datamodule.prepare_data()
    datamodule.setup(stage)
    announce(datamodule, stage)


def print_metrics(model: LightningModule, metrics: Mapping[str, float], images: int | None = None) -> None:
    """Print a line for the raw and the averaged weights, and which of them ``predict`` uses.

    Args:
        model: The task; ``predict`` is mentioned only if it can predict.
        metrics: Values by name.
        images: Number of evaluated images, if known.
    """
    has_average = getattr(model, "model_ema", None) is not None if getattr(model, "can_predict", False) else None
    if getattr(getattr(model, "execution", None), "test_time_flip", False):
        say("Each image is averaged with its mirror image, as in predict (model.execution.test_time_flip).")
    calibration = getattr(model, "calibration", None)
    if calibration is not None and not calibration.is_neutral:
        say("The checkpoint's calibration, which predict and evaluate use, does not apply to these metrics.")
    for line in evaluation_lines(metrics, has_average=has_average, images=images):
        say(line)
