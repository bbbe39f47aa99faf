"""Progress of a run, on a terminal and in a log file."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console


class RunProgressBar(RichProgressBar):
    """Progress with images per second (all devices) and the time left in the run; a line per epoch that stays.

    Where the output is no terminal, only the lines per epoch are printed.
    """

    def __init__(self) -> None:
        self._out = Console(soft_wrap=True, highlight=False, markup=False)
        super().__init__(refresh_rate=5 if self._out.is_terminal else 0)
        self._run_start = 0.0
        self._first_step = 0
        self._epoch_start = 0.0
        self._images = 0
        self._images_per_s = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        super().on_train_start(trainer, pl_module)
        self._run_start = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's counts."""
        super().on_train_epoch_start(trainer, pl_module)
        self._epoch_start = time.monotonic()
        self._images = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images."""
        self._images += len(batch[0]) * trainer.world_size
        self._images_per_s = self._images / (time.monotonic() - self._epoch_start)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

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
            figures |= {"img/s": f"{self._images_per_s:.0f}", "left": self._time_left(trainer)}
        return figures

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs
        return f"Epoch {current_epoch + 1}" + (f"/{total}" if total is not None and total > 0 else "")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        figures = [
            f"{name} {float(trainer.callback_metrics[name]):.3f}"
            for name in ("train/loss", "train/acc1", "val/loss", "val/acc1", "val_ema/acc1")
            if name in trainer.callback_metrics
        ]
        epoch = self._get_train_description(trainer.current_epoch).lower()
        speed = f"{self._images_per_s:.0f} img/s"
        console = self._out if self.progress is None else self.progress.console
        line = "  ".join([epoch, *figures, speed, f"{self._time_left(trainer)} left"])
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _time_left(self, trainer: Trainer) -> str:
        done = trainer.global_step - self._first_step
        total = trainer.estimated_stepping_batches - self._first_step
        if done <= 0 or total == float("inf"):
            return "?"
        seconds = (time.monotonic() - self._run_start) / done * max(total - done, 0)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
