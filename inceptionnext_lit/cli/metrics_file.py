"""The metrics of ``validate`` and ``test`` as a JSON file."""

import json
import math
import os
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from inceptionnext_lit.cli.parsing.predict_options import add_switch
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.base import BaseDataModule
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import obstacle, replacing

SPLITS = {"validate": "val", "test": "test"}


def add_metrics_file(parser: LightningArgumentParser) -> None:
    """Add the keys of ``validate`` and ``test``."""
    parser.add_argument("--output", type=str | None, help="Write the metrics, unrounded, to this .json file too.")
    add_switch(parser, "--overwrite", "Replace the output if it exists.")


class MetricsFile:
    """A JSON file with metrics under their names, ``images``, ``root``, ``split`` and ``checkpoint`` or ``weights``.

    Args:
        output: The file; None to write none.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: If it has another suffix, cannot be written, or exists.
    """

    def __init__(self, output: str | None, *, overwrite: bool) -> None:
        self._path = None if output is None else Path(output).expanduser()
        if self._path is None:
            return
        if self._path.suffix.lower() != ".json":
            raise UserError(f"--output is {output}; it must end in .json.")
        if (code := obstacle(self._path)) is not None:
            raise UserError(f"--output {output} cannot be written: {os.strerror(code)}; give another file.")
        if self._path.exists() and not overwrite:
            raise UserError(f"{output} already exists; add --overwrite to replace it, or give another --output.")

    def write(self, metrics: Mapping[str, float], about: Mapping[str, Any]) -> str | None:
        """Write the metrics, in full precision; NaN and infinite ones become null.

        Args:
            metrics: Values by name.
            about: What they are of.

        Returns:
            A line that says where they are, or None if no file was requested.

        Raises:
            UserError: If the file cannot be written.
        """
        if self._path is None:
            return None
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        try:
            with replacing(self._path) as target:
                target.write_text(json.dumps({**finite, **about}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"The metrics could not be written to {self._path}: {error.strerror or error}.") from error
        return f"Metrics written to {self._path}"


def evaluated_images(datamodule: LightningDataModule, trainer: Trainer, stage: str) -> int | None:
    """Return how many images were evaluated, which ``trainer.limit_val_batches`` may limit; None if unknown.

    Args:
        datamodule: The data, set up for the stage.
        trainer: The trainer that has evaluated.
        stage: ``validate`` or ``test``.
    """
    if not isinstance(datamodule, BaseDataModule):
        return None
    images = len(cast(Sized, datamodule.val_set if stage == "validate" else datamodule.test_set))
    batches = trainer.num_val_batches if stage == "validate" else trainer.num_test_batches
    return int(min(images, sum(batches) * datamodule.batch_size * trainer.world_size))


def describe_images(datamodule: LightningDataModule, stage: str) -> dict[str, Any]:
    """Return the ``root`` of the evaluated images, and their ``split``: ``val``, ``test``, or ``all`` without splits.

    If only some of the model's outputs count, ``classes`` is their number. If there are ReaL labels, ``real_labels`` is
    their file.

    Args:
        datamodule: The data, set up for the stage.
        stage: ``validate`` or ``test``.
    """
    if not isinstance(datamodule, ImageFolderDataModule):
        return {"root": None, "split": SPLITS[stage]}
    held_back = stage == "validate" and datamodule.holds_back
    whole = not datamodule.images.source.has_splits and not held_back
    found = {"root": datamodule.settings["root"], "split": "all" if whole else SPLITS[stage]}
    if datamodule.evaluated is not None and datamodule.evaluated.outputs is not None:
        found["classes"] = len(datamodule.evaluated.outputs)
    if datamodule.images.real_labels is not None:
        found["real_labels"] = datamodule.images.real_labels
    return found


def only_defined(metrics: dict[str, float], datamodule: LightningDataModule) -> dict[str, float]:
    """Return the metrics that are defined for the labels: with ReaL labels, only accuracies over images.

    Args:
        metrics: Values by name.
        datamodule: The data.
    """
    if not isinstance(datamodule, ImageFolderDataModule) or datamodule.images.real_labels is None:
        return metrics
    return {name: value for name, value in metrics.items() if name.rpartition("/")[2] in ("acc1", "acc5")}
