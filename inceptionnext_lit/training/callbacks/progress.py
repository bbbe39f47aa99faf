"""Progress of a run, on a terminal or in a log file."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint
from inceptionnext_lit.training.callbacks.learning_rate import peak_rate
from inceptionnext_lit.training.clock import TrainingClock, format_seconds
from inceptionnext_lit.training.pending import Pending
from inceptionnext_lit.wording import printable

_LINE_EVERY_S = 300.0
_REDRAWN_PER_S = 5


class RunProgressBar(RichProgressBar):
    """Progress bar with loss, learning rate, images per second (all devices), time left and best value so far.

    A line per epoch is printed and stays. If the output is not a terminal, only these lines are printed, and in long
    epochs a line every five minutes. The metrics next to the bar are updated as often as it is drawn, not in each step,
    and show the previous update's loss, so that a GPU does not have to be waited for.
    """

    def __init__(self) -> None:
        self._out = LineConsole()
        super().__init__(refresh_rate=_REDRAWN_PER_S if self._out.is_terminal else 0)
        self._clock = TrainingClock()
        self._run_start = 0.0
        self._first_step = 0
        self._rate = 0.0
        self._last_line = 0.0
        self._shown: dict[str, Any] = {}
        self._made_at = 0.0
        self._loss: Pending | None = None
        self._best: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        super().on_train_start(trainer, pl_module)
        self._run_start = self._last_line = time.monotonic()
        self._first_step = trainer.global_step
        self._clock.reset()
        self._best = best_so_far(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the epoch's counts."""
        super().on_train_epoch_start(trainer, pl_module)
        self._clock.reset()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the learning rate of the batch, before schedules set the next one."""
        self._rate = peak_rate(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images, and update the metrics if it is time."""
        self._clock.tick(len(batch[0]) * trainer.world_size)
        if self.progress is not None and time.monotonic() - self._made_at > 1 / _REDRAWN_PER_S:
            self._made_at = time.monotonic()
            self._refresh_shown(trainer, outputs)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self.progress is None and time.monotonic() - self._last_line > _LINE_EVERY_S:
            place = f"step {trainer.global_step} of {trainer.estimated_stepping_batches:.0f}"
            self._print_line(trainer, place, ["train/loss_step"])

    def leave_out(self, seconds: float) -> None:
        """Leave out time that was spent on something else than training."""
        self._clock.leave_out(seconds)
        self._run_start += seconds

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation from the training time."""
        super().on_validation_end(trainer, pl_module)
        self._clock.skip()
        self._best = best_so_far(trainer)

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Return the columns of the bar without Lightning's batches per second, which images per second replace."""
        columns: list[Any] = super().configure_columns(trainer)[:-1]
        return columns

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics next to the bar, as last updated."""
        return self._shown

    def _refresh_shown(self, trainer: Trainer, outputs: Any) -> None:
        shown: dict[str, Any] = {} if self._loss is None else {"loss": self._loss.read()}
        shown |= {"lr": f"{self._rate:.2e}", "img/s": f"{self._clock.images_per_s:.0f}"}
        self._shown = shown | {"left": self._time_left(trainer)} | self._best
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        # Lightning has divided it by the batches of an optimizer step
        self._loss = None if loss is None else Pending(loss * trainer.accumulate_grad_batches)

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs
        return f"Epoch {current_epoch + 1}" + (f"/{total}" if total is not None and total > 0 else "")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        epoch = self._get_train_description(trainer.current_epoch).lower()
        self._print_line(trainer, epoch, getattr(pl_module, "shown_metrics", ["train/loss", "val/loss"]))

    def _print_line(self, trainer: Trainer, place: str, names: list[str]) -> None:
        if not trainer.is_global_zero:
            return
        found = [name for name in names if name in trainer.callback_metrics]
        values = [f"{name} {float(trainer.callback_metrics[name]):.3f}" for name in found]
        values += [f"{name} {value}" for name, value in best_so_far(trainer).items()]
        speed = [f"lr {self._rate:.2e}", f"{self._clock.images_per_s:.0f} img/s"]
        console = self._out if self.progress is None else self.progress.console
        line = printable("  ".join([place, *values, *speed, f"{self._time_left(trainer)} left"]))
        console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def _time_left(self, trainer: Trainer) -> str:
        done = trainer.global_step - self._first_step
        total = trainer.estimated_stepping_batches - self._first_step
        if done <= 0 or total == float("inf"):
            return "?"
        return format_seconds((time.monotonic() - self._run_start) / done * max(total - done, 0))


def best_so_far(trainer: Trainer) -> dict[str, str]:
    """Return the best validation value so far as ``{"best METRIC": value}``; empty before the first one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint):
            score = callback.current_best(trainer)
            return {} if score is None else {f"best {callback.monitor}": f"{score:.3f}"}
    return {}
