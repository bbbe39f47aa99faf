"""What a command says of its images before it begins."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from inceptionnext_lit.cli.continuing import say
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.training.record import KEY as RUN
from inceptionnext_lit.training.same_data import KEY as DATA


def announce(datamodule: LightningDataModule, stage: str) -> None:
    """Say which images a stage uses, and which are left out.

    Args:
        datamodule: The data, set up for the stage.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    if isinstance(datamodule, ImageFolderDataModule):
        for line in datamodule.describe(stage):
            say(line)


def begin_evaluation(
    datamodule: LightningDataModule, trainer: Trainer, checkpoint: Mapping[str, Any], stage: str
) -> None:
    """Choose the images that go with a checkpoint, and say which they are.

    Args:
        datamodule: The data.
        trainer: What evaluates.
        checkpoint: The checkpoint, which holds its run's settings and what tells its images from others.
        stage: ``validate`` or ``test``.
    """
    datamodule.trainer = trainer
    if isinstance(datamodule, ImageFolderDataModule):
        datamodule.evaluates_run(checkpoint.get(RUN, {}), checkpoint.get(DATA, {}))
    datamodule.prepare_data()
    datamodule.setup(stage)
    announce(datamodule, stage)
