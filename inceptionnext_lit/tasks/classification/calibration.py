"""Corrections of a classifier's probabilities that ``evaluate`` finds, stored in its checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.base import BaseTask
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

KEY = "calibration"


@dataclass(frozen=True)
class StoredCalibration:
    """Corrections for prediction; the defaults change nothing.

    Attributes:
        temperature: What logits are divided by.
        thresholds: The probability from which on each label is present, in the order of the classes, if an image may
            have several labels; None for one half.
    """

    temperature: float = 1.0
    thresholds: list[float] | None = None

    @property
    def is_neutral(self) -> bool:
        """Whether it changes nothing."""
        return self == StoredCalibration()

    def scaled(self, temperature: float) -> "StoredCalibration":
        """Return the calibration for logits that are divided by a further temperature, with the same labels present."""
        thresholds = self.thresholds
        if thresholds is not None:
            thresholds = [_sigmoid(_logit(threshold) / temperature) for threshold in thresholds]
        return StoredCalibration(self.temperature * temperature, thresholds)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"temperature": self.temperature, "thresholds": self.thresholds}


def read_calibration(checkpoint: Mapping[str, Any], classes: Sequence[str]) -> StoredCalibration:
    """Return the calibration in a checkpoint, which is neutral if there is none.

    Args:
        checkpoint: Lightning's dictionary.
        classes: The class names.

    Raises:
        UserError: If it is not valid.
    """
    stored = checkpoint.get(KEY)
    if stored is None:
        return StoredCalibration()
    temperature, thresholds = stored.get("temperature", 1.0), stored.get("thresholds")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise UserError(f"The checkpoint's calibration.temperature is {temperature!r}; it must be greater than 0.")
    if thresholds is not None and (len(thresholds) != len(classes) or not all(0 <= one <= 1 for one in thresholds)):
        raise UserError("The checkpoint's calibration.thresholds must be one probability per class.")
    return StoredCalibration(float(temperature), thresholds)


def save_calibrated(source: Path, target: Path, calibration: StoredCalibration) -> None:
    """Write a copy of a checkpoint with a calibration.

    Args:
        source: The checkpoint.
        target: The copy.
        calibration: The calibration.

    Raises:
        UserError: If the copy is the checkpoint itself, or cannot be written.
    """
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the checkpoint itself; give another file for its calibrated copy.")
    content = read_checkpoint(source, mmap=True) | {KEY: calibration.record()}
    try:
        with replacing(target) as partial:
            torch.save(content, partial)
    except OSError as error:
        raise UserError(f"The checkpoint {target} cannot be written: {error.strerror or error}.") from error


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-12), 1 - 1e-12)
    return math.log(bounded / (1 - bounded))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


class CalibratedTask(BaseTask):
    """A task whose checkpoints may contain a calibration.

    Attributes:
        calibration: Temperature and thresholds for prediction.
    """

    calibration = StoredCalibration()
    class_names: list[str]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained, with the calibration if there is one.

        Args:
            checkpoint: Lightning's dictionary, changed in place.
        """
        super().on_save_checkpoint(checkpoint)
        if not self.calibration.is_neutral:
            checkpoint[KEY] = self.calibration.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the calibration; see :meth:`BaseTask.on_load_checkpoint`.

        Args:
            checkpoint: Lightning's dictionary.
        """
        super().on_load_checkpoint(checkpoint)
        self.calibration = read_calibration(checkpoint, self.class_names)

    def on_train_start(self) -> None:
        """Drop the calibration of a resumed checkpoint, which further training makes invalid."""
        super().on_train_start()
        if not self.calibration.is_neutral:
            rank_zero_info("The checkpoint's calibration is dropped, since its weights are trained further.")
            self.calibration = StoredCalibration()
