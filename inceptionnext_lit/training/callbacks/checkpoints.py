"""Which checkpoints a run keeps, and which one a resumed run starts from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import DeferrableStopping, SaveableCheckpoint
from inceptionnext_lit.training.checkpoint_io import OpenCheckpoint, open_checkpoint

FOLDER = "checkpoints"
Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Checkpoints:
    """Which checkpoints a run keeps.

    Args:
        monitor: Logged metric that decides which epoch is kept as ``best.ckpt``, for example ``val/acc1``, ``val/loss``
            or ``val_ema/acc1``; ``auto`` is the accuracy, or the mAP for images with several labels.
        mode: Whether the largest or the smallest value is the best; only needed if the task does not define it.
        every_n_steps: Optimizer steps between two saves of ``last.ckpt``, which is also saved after each epoch.
        patience: Validations without improvement after which the run stops early, though not before
            ``trainer.min_epochs``; none disables early stopping.

    Raises:
        UserError: If ``every_n_steps`` or ``patience`` is less than 1.
    """

    monitor: str = "auto"
    mode: Mode | None = None
    every_n_steps: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_choices(self, "checkpoint")
        for name in ("every_n_steps", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"checkpoint.{name} is {value}; it must be 1 or more, or null.")

    def callbacks(self) -> list[Callback]:
        """Create the callbacks that keep the checkpoints and, if requested, stop the run early."""
        kept: list[Callback] = [BestCheckpoint(self.monitor, self.mode), LastCheckpoint(self.every_n_steps)]
        if self.patience is not None:
            kept.insert(0, StopEarly(self.monitor, self.mode, self.patience))
        return kept


def best_mode(module: LightningModule, monitor: str, mode: Mode | None = None) -> Mode:
    """Return whether the best value of a metric is the largest or the smallest.

    Args:
        module: The task; its ``directions`` attribute, if any, gives ``max`` or ``min`` for each metric it logs.
        monitor: Name of the metric.
        mode: The user's choice; None to use the task's.

    Raises:
        UserError: If the user contradicts the task, or neither defines it.
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
            f"{type(module).__name__} does not define whether the best {monitor} is the largest or the smallest; give "
            "--checkpoint.mode max or --checkpoint.mode min."
        )
    return chosen


class BestCheckpoint(ModelCheckpoint):
    """Keep the epoch with the best validation metric as ``checkpoints/best.ckpt``.

    Args:
        monitor: Name of the logged metric.
        mode: Whether the largest or the smallest value is the best; None to ask the task, see :func:`best_mode`.
    """

    def __init__(self, monitor: str = "val/acc1", mode: Mode | None = None) -> None:
        super().__init__(filename="best", monitor=monitor, mode=mode or "max", enable_version_counter=False)
        self._asked = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Determine which value is the best.

        Raises:
            UserError: As for :func:`best_mode`.
        """
        self.mode = best_mode(pl_module, str(self.monitor), self._asked)
        self.kth_value = torch.tensor(float("inf" if self.mode == "min" else "-inf"))
        super().setup(trainer, pl_module, stage)

    def current_best(self, trainer: Trainer) -> float | None:
        """Return the best value including the latest validation, whose checkpoint is saved only later."""
        values = [self.best_model_score, trainer.callback_metrics.get(str(self.monitor))]
        known = [float(value) for value in values if value is not None and not value.isnan()]
        return (max if self.mode == "max" else min)(known) if known else None


class StopEarly(DeferrableStopping):
    """Stop a run when its metric has not improved for several validations, though not before ``min_epochs``.

    Lightning's own callback also decides before ``min_epochs``, and then stops there even if the metric has recovered.

    Args:
        monitor: Name of the logged metric.
        mode: Whether the largest or the smallest value is the best; None to ask the task, see :func:`best_mode`.
        patience: Validations without improvement.
    """

    def __init__(self, monitor: str, mode: Mode | None, patience: int) -> None:
        # after validations only: a run that ends in the middle of an epoch by its step limit may have had none
        super().__init__(monitor, mode=mode or "max", patience=patience, check_on_train_epoch_end=False)
        self._asked = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Determine which value is the best.

        Raises:
            UserError: As for :func:`best_mode`.
        """
        self.mode = best_mode(pl_module, self.monitor, self._asked)
        self.best_score = torch.tensor(float("inf" if self.mode == "min" else "-inf"))
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts, but keep this run's patience."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if the metric has not improved and ``min_epochs`` and ``min_steps`` are reached."""
        loop = cast(Any, trainer.fit_loop)
        epochs = loop.epoch_progress.current.processed + loop.epoch_loop.batch_progress.is_last_batch
        self.may_stop = epochs >= (loop.min_epochs or 0) and trainer.global_step >= (loop.min_steps or 0)
        super().on_validation_end(trainer, pl_module)


class LastCheckpoint(SaveableCheckpoint):
    """Keep the latest state as ``checkpoints/last.ckpt``, saved after each epoch and every few steps.

    A separate callback, because Lightning skips ``save_last`` whenever it does not save the monitored checkpoint.

    Args:
        every_n_steps: Optimizer steps between two saves; None saves after each epoch only.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint, independent of the steps between two saves."""
        return type(self).__name__

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the validation, even if the last step was already saved."""
        self.forget_last_save()
        super().on_train_epoch_end(trainer, pl_module)


def find_last(run_folders: list[Path]) -> tuple[OpenCheckpoint | None, list[str]]:
    """Find the newest readable checkpoint to resume a run from.

    Args:
        run_folders: Folders of the run, oldest first. An older one is used only if nothing in the newer ones can be
            read; a newest one without checkpoints belongs to a run that has not saved yet.

    Returns:
        The checkpoint, or None; and one sentence for each file that could not be read.
    """
    unread: list[str] = []
    for folder in reversed(run_folders):
        for path in _newest_first(folder / FOLDER):
            try:
                opened = open_checkpoint(path)
                if "fit_loop" not in opened.content.get("loops", {}) or "global_step" not in opened.content:
                    raise UserError(f"The file {path} contains only weights, so no run can continue from it.")
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
