"""Progress of a run, on a terminal and in a log file."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

from inceptionnext_lit.training.checkpoints import BestCheckpoint
from inceptionnext_lit.training.clock import TrainingClock, format_seconds

_SIGN_OF_LIFE_S = 300.0


class RunProgressBar(RichProgressBar):
    """Progress with loss, rate, images per second (all devices), time left and the best so far; a line per epoch stays.

    Where the output is no terminal, only the lines per epoch are printed, and in long epochs a line every five minutes.
    """

    def __init__(self) -> None:
        self._out = Console(soft_wrap=True, highlight=False, markup=False)
        super().__init__(refresh_rate=5 if self._out.is_terminal else 0)
        self._clock = TrainingClock()
        self._run_start = 0.0
        self._first_step = 0
        self._last_line = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        super().on_train_start(trainer, pl_module)
        self._run_start = self._last_line = time.monotonic()
        self._first_step = trainer.global_step
        self._clock.reset()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's counts."""
        super().on_train_epoch_start(trainer, pl_module)
        self._clock.reset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images."""
        self._clock.tick(len(batch[0]) * trainer.world_size)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress is None and time.monotonic() - self._last_line > _SIGN_OF_LIFE_S:
            place = f"step {trainer.global_step} of {trainer.estimated_stepping_batches:.0f}"
            self._print_line(trainer, place, ["train/loss_step"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it out of the training's time."""
        super().on_validation_end(trainer, pl_module)
        self._clock.skip()

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Columns of the bar, without Lightning's batches per second, which images per second replace."""
        columns: list[Any] = super().configure_columns(trainer)[:-1]
        return columns

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Figures beside the bar."""
        figures: dict[str, Any] = {}
        if "train/loss_step" in trainer.callback_metrics:
            figures["loss"] = float(trainer.callback_metrics["train/loss_step"])
        if trainer.training:
            figures |= {"lr": f"{peak_rate(trainer):.2e}", "img/s": f"{self._clock.images_per_s:.0f}"}
            figures |= {"left": self._time_left(trainer)} | best_so_far(trainer)
        return figures

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs
        return f"Epoch {current_epoch + 1}" + (f"/{total}" if total is not None and total > 0 else "")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        epoch = self._get_train_description(trainer.current_epoch).lower()
        self._print_line(trainer, epoch, ["train/loss", "train/acc1", "val/loss", "val/acc1", "val_ema/acc1"])

    def _print_line(self, trainer: Trainer, place: str, names: list[str]) -> None:
        if not trainer.is_global_zero:
            return
        found = [name for name in names if name in trainer.callback_metrics]
        figures = [f"{name} {float(trainer.callback_metrics[name]):.3f}" for name in found]
        figures += [f"{name} {value}" for name, value in best_so_far(trainer).items()]
        speed = [f"lr {peak_rate(trainer):.2e}", f"{self._clock.images_per_s:.0f} img/s"]
        console = self._out if self.progress is None else self.progress.console
        line = "  ".join([place, *figures, *speed, f"{self._time_left(trainer)} left"])
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def _time_left(self, trainer: Trainer) -> str:
        done = trainer.global_step - self._first_step
        total = trainer.estimated_stepping_batches - self._first_step
        if done <= 0 or total == float("inf"):
            return "?"
        return format_seconds((time.monotonic() - self._run_start) / done * max(total - done, 0))


def peak_rate(trainer: Trainer) -> float:
    """The greatest learning rate of all groups."""
    return max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)


def best_so_far(trainer: Trainer) -> dict[str, str]:
    """The best validation figure up to now, under the name ``best FIGURE``; empty before the first."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint):
            score = callback.current_best(trainer)
            return {} if score is None else {f"best {callback.monitor}": f"{score:.3f}"}
    return {}
