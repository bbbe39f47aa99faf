"""What a command says of its images before it begins."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from inceptionnext_lit.cli.continuing import say
from inceptionnext_lit.data import ImageFolderDataModule


def announce(datamodule: LightningDataModule, stage: str) -> None:
    """Say which images a stage uses, and which are left out.

    Args:
        datamodule: The data, set up for the stage.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    if isinstance(datamodule, ImageFolderDataModule):
        for line in datamodule.describe(stage):
            say(line)


def begin_evaluation(datamodule: LightningDataModule, trainer: Trainer, run: Mapping[str, Any], stage: str) -> None:
    """Choose the images that go with a checkpoint, and say which they are.

    Args:
        datamodule: The data.
        trainer: What evaluates.
        run: The settings of the checkpoint's run; empty if it does not hold them.
        stage: ``validate`` or ``test``.
    """
    datamodule.trainer = trainer
    if isinstance(datamodule, ImageFolderDataModule):
        datamodule.evaluates_run(run)
    datamodule.prepare_data()
    datamodule.setup(stage)
    announce(datamodule, stage)
