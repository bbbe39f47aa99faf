"""Corrections of a classifier's probabilities that ``evaluate`` finds, stored in its checkpoint."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predictions import Predictions
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.tasks.base import BaseTask
from inceptionnext_lit.tasks.classification.predictions import rank
from inceptionnext_lit.tasks.classification.targets import Targets
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

KEY = "calibration"
_FIX = "store it again with evaluate, or use the original checkpoint."


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


def read_calibration(content: Mapping[str, Any], num_classes: int, source: str = "the checkpoint") -> StoredCalibration:
    """Return the calibration in a checkpoint, which is neutral if there is none.

    Args:
        content: Lightning's dictionary.
        num_classes: Number of classes.
        source: What messages call it.

    Raises:
        UserError: If it is not valid.
    """
    stored = content.get(KEY)
    if stored is None:
        return StoredCalibration()
    if not isinstance(stored, Mapping):
        raise UserError(f"The calibration in {source} is {stored!r}, not a temperature and thresholds; {_FIX}")
    temperature, thresholds = stored.get("temperature", 1.0), stored.get("thresholds")
    if not _is_number(temperature) or not 0 < temperature < math.inf:
        raise UserError(
            f"The calibration.temperature in {source} is {temperature!r}; it must be greater than 0 and finite. "
            f"{_FIX.capitalize()}"
        )
    if thresholds is not None and not _are_thresholds(thresholds, num_classes):
        raise UserError(f"The calibration.thresholds in {source} are not {num_classes} numbers from 0 to 1; {_FIX}")
    return StoredCalibration(float(temperature), None if thresholds is None else list(map(float, thresholds)))


def _are_thresholds(value: Any, num_classes: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == num_classes
        and all(_is_number(one) and 0 <= one <= 1 for one in value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        class_names: The class names.
        targets: The label type.
        data_spec: Classes and input.
    """

    calibration = StoredCalibration()
    class_names: list[str]
    targets: Targets
    data_spec: DataSpec

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
        self.calibration = read_calibration(checkpoint, len(self.class_names))

    def on_train_start(self) -> None:
        """Drop the calibration of a resumed checkpoint, which further training makes invalid."""
        super().on_train_start()
        if not self.calibration.is_neutral:
            rank_zero_info("The checkpoint's calibration is dropped, since its weights are trained further.")
            self.calibration = StoredCalibration()

    def scores(self, logits: Tensor) -> Tensor:
        """Return class probabilities, float32 (N, num_classes), from logits of that shape.

        Logits are divided by the temperature of :attr:`calibration`. All probabilities are NaN for an image with a NaN
        or infinite logit.
        """
        logits = logits.float()
        lost = ~logits.isfinite().all(dim=1, keepdim=True)
        return self.targets.probabilities(logits / self.calibration.temperature).masked_fill(lost, torch.nan)

    def predict_step(self, batch: Any, batch_idx: int) -> Predictions:
        """Return the most probable classes of a batch.

        Args:
            batch: A batch of the data module: images (N, C, H, W), their N paths, and the unreadable files. Or the
                images alone, or with their labels, which get the batch and their place in it instead of paths.
            batch_idx: The batch.
        """
        images, *others = (batch,) if isinstance(batch, Tensor) else batch
        paths = others[0] if len(others) == 2 else [f"batch {batch_idx}, image {row}" for row in range(len(images))]
        scores = self.scores(self(images)) if paths else images.new_empty(0, len(self.class_names))
        thresholds = self.calibration.thresholds
        return rank(scores, paths, multi_label=self.data_spec.multi_label, thresholds=thresholds)
