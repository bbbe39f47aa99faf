"""Which checkpoints a run keeps, and which of them a continued run starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import DeferrableStopping, SaveableCheckpoint
from inceptionnext_lit.training.checkpoint_io import OpenCheckpoint, open_checkpoint

FOLDER = "checkpoints"
Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Checkpoints:
    """Which checkpoints a run keeps.

    Args:
        monitor: Logged figure that decides which epoch is kept as ``best.ckpt``, for example ``val/acc1``,
            ``val/loss`` or ``val_ema/acc1``; ``auto`` is the accuracy, or the mAP where images have several labels.
        mode: Whether the largest or the smallest value is the best; only needed for a task that does not say it of its
            metrics.
        every_n_steps: Optimiser steps between two saves of ``last.ckpt``, which is also saved after each epoch.
        patience: Validations without a better figure after which the run stops early, though not before
            ``trainer.min_epochs``; none never stops it.

    Raises:
        UserError: If ``every_n_steps`` or ``patience`` is less than 1.
    """

    monitor: str = "auto"
    mode: Mode | None = None
    every_n_steps: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("every_n_steps", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"checkpoint.{name} is {value}; it must be 1 or more, or null.")

    def callbacks(self) -> list[Callback]:
        """The callbacks that keep them, and stop the run early if that is asked for."""
        kept: list[Callback] = [BestCheckpoint(self.monitor, self.mode), LastCheckpoint(self.every_n_steps)]
        if self.patience is not None:
            kept.insert(0, StopEarly(self.monitor, self.mode, self.patience))
        return kept


def best_mode(module: LightningModule, monitor: str, mode: Mode | None = None) -> Mode:
    """Whether the best value of a metric is the largest or the smallest.

    Args:
        module: The task; its attribute ``directions``, if it has one, says ``max`` or ``min`` for each metric it logs.
        monitor: Name of the metric.
        mode: What the user said; None to go by the task.

    Raises:
        UserError: If the user contradicts the task, or neither of them says it.
    """
    directions: dict[str, Mode] = getattr(module, "directions", {})
    known = directions.get(monitor)
    if known is not None and mode not in (None, known):
        largest = "largest" if known == "max" else "smallest"
        raise UserError(
            f"checkpoint.mode is {mode}, but the best {monitor} is the {largest}; leave out checkpoint.mode, or give "
            f"--checkpoint.mode {known}."
        )
    if (chosen := mode or known) is None:
        raise UserError(
            f"{type(module).__name__} does not say whether the best {monitor} is the largest or the smallest; give "
            "--checkpoint.mode max or --checkpoint.mode min."
        )
    return chosen


class BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation figure as ``checkpoints/best.ckpt``.

    Args:
        monitor: Logged figure that decides.
        mode: Whether the largest or the smallest is the best; None to go by the task, see :func:`best_mode`.
    """

    def __init__(self, monitor: str = "val/acc1", mode: Mode | None = None) -> None:
        super().__init__(filename="best", monitor=monitor, mode=mode or "max", enable_version_counter=False)
        self._asked = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out which value is the best.

        Raises:
            UserError: As :func:`best_mode`.
        """
        self.mode = best_mode(pl_module, str(self.monitor), self._asked)
        self.kth_value = torch.tensor(float("inf" if self.mode == "min" else "-inf"))
        super().setup(trainer, pl_module, stage)

    def current_best(self, trainer: Trainer) -> float | None:
        """The best figure with the newest validation's, which is saved only after the epoch's line is printed."""
        figures = [self.best_model_score, trainer.callback_metrics.get(str(self.monitor))]
        known = [float(figure) for figure in figures if figure is not None and not figure.isnan()]
        return (max if self.mode == "max" else min)(known) if known else None


class StopEarly(DeferrableStopping):
    """Stops a run when its figure has not become better for some validations, though not before ``min_epochs``.

    Lightning's own callback decides before ``min_epochs`` too, and the run then stops there even if it has recovered.

    Args:
        monitor: Logged figure that decides.
        mode: Whether the largest or the smallest is the best; None to go by the task, see :func:`best_mode`.
        patience: Validations without a better figure.
    """

    def __init__(self, monitor: str, mode: Mode | None, patience: int) -> None:
        # after validations only: a run that its step limit ends in an epoch's middle may have had none
        super().__init__(monitor, mode=mode or "max", patience=patience, check_on_train_epoch_end=False)
        self._asked = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out which value is the best.

        Raises:
            UserError: As :func:`best_mode`.
        """
        self.mode = best_mode(pl_module, self.monitor, self._asked)
        self.best_score = torch.tensor(float("inf" if self.mode == "min" else "-inf"))
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting; the patience is this run's own, not the checkpoint's."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide."""
        loop = cast(Any, trainer.fit_loop)
        epochs = loop.epoch_progress.current.processed + loop.epoch_loop.batch_progress.is_last_batch
        self.may_stop = epochs >= (loop.min_epochs or 0) and trainer.global_step >= (loop.min_steps or 0)
        super().on_validation_end(trainer, pl_module)


class LastCheckpoint(SaveableCheckpoint):
    """Keeps the newest state as ``checkpoints/last.ckpt``, to continue from: after each epoch and every some steps.

    A separate callback because Lightning's ``save_last`` is skipped whenever the monitored one is not saved.

    Args:
        every_n_steps: Optimiser steps between two saves; None saves after each epoch only.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint, whatever the steps between two saves."""
        return type(self).__name__

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the validation, also where its last step has been saved before."""
        self.forget_last_save()
        super().on_train_epoch_end(trainer, pl_module)


def find_last(run_folders: list[Path]) -> tuple[OpenCheckpoint | None, list[str]]:
    """Find what a run is to continue from: the newest checkpoint that can be read.

    Args:
        run_folders: Folders of the run, oldest first. An older one is looked at only if nothing in the newer ones can
            be read; a newest one without checkpoints is a run that has not saved yet.

    Returns:
        The checkpoint, or None if there is none; and a sentence on each file that could not be read.
    """
    unread: list[str] = []
    for folder in reversed(run_folders):
        for path in _newest_first(folder / FOLDER):
            try:
                opened = open_checkpoint(path)
                if "fit_loop" not in opened.content.get("loops", {}) or "global_step" not in opened.content:
                    raise UserError(f"The file {path} holds weights alone, so no run can continue from it.")
            except UserError as error:
                unread.append(str(error))
            else:
                return opened, unread
        if not unread:
            break
    return None, unread


def _newest_first(folder: Path) -> list[Path]:
    def age(path: Path) -> tuple[bool, float]:
        return path.name != "last.ckpt", -path.stat().st_mtime

    return sorted(folder.glob("*.ckpt"), key=age)
