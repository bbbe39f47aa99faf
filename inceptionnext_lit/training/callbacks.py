"""What a person sees and keeps of a run: progress, checkpoints, a closing summary."""

import shlex
import shutil
import sys
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any, Literal, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from rich.console import Console
from torch.utils.data import DataLoader

from inceptionnext_lit.training.checkpoint_io import read_checkpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation figure as ``checkpoints/best.ckpt``.

    Args:
        monitor: Logged figure that decides, for example ``val/acc1``, ``val/loss`` or ``val_ema/acc1``.
        mode: Whether the largest or the smallest is the best.
    """

    def __init__(self, monitor: str = "val/acc1", mode: Literal["max", "min"] = "max") -> None:
        super().__init__(filename="best", monitor=monitor, mode=mode, enable_version_counter=False)


class LastCheckpoint(ModelCheckpoint):
    """Keeps the newest state as ``checkpoints/last.ckpt``, to continue from.

    A separate callback because Lightning's ``save_last`` is skipped whenever the monitored one is not saved.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)


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


class RunSummary(Callback):
    """Says at the start what is trained on what, and at the end what came out and what to type next."""

    def __init__(self) -> None:
        self._out = Console(soft_wrap=True, highlight=False, markup=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what is about to happen, on the first process."""
        folder = trainer.log_dir  # a broadcast: every process has to ask
        if not trainer.is_global_zero:
            return
        model, loader = pl_module.hparams["name"], cast(DataLoader[Any], trainer.train_dataloader)
        params = sum(p.numel() for p in pl_module.parameters() if p.requires_grad) / 1e6
        batch = (loader.batch_size or 1) * trainer.world_size * trainer.accumulate_grad_batches
        self._out.print(f"Model:      {model}, {params:.2f} M parameters, on {pl_module.device}")
        self._out.print(
            f"Data:       {len(cast(Sized, loader.dataset))} training images of {pl_module.num_classes} classes; "
            f"{batch} a step = {loader.batch_size} × {trainer.world_size} devices × "
            f"{trainer.accumulate_grad_batches} accumulated; {trainer.estimated_stepping_batches} steps"
        )
        if folder is not None:
            self._out.print(f"Run folder: {_relative(folder)}")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what came of it, on the first process."""
        if not trainer.is_global_zero:
            return
        best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
        last = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        checkpoint = last.best_model_path if last is not None else ""
        if best is not None and best.best_model_score is not None and Path(best.best_model_path).is_file():
            checkpoint = best.best_model_path
            epoch = read_checkpoint(checkpoint, mmap=True)["epoch"] + 1
            self._out.print(f"Best:       {best.monitor} {float(best.best_model_score):.4f} in epoch {epoch}")
        if checkpoint:
            path = shlex.quote(_relative(checkpoint))
            self._out.print(f"Checkpoint: {path}")
            self._out.print(f"Next:       {_program()} predict --ckpt_path {path} --data.root FOLDER_OR_IMAGE")


def _program() -> str:
    """How this person starts the command line: by its script and an interpreter, or by its installed name."""
    script = sys.argv[0]
    if not script.endswith(".py"):
        return Path(script).name
    on_path = shutil.which("python")
    python = "python" if on_path is not None and Path(on_path) == Path(sys.executable) else sys.executable
    return shlex.join([python if python == "python" else _relative(python, follow=False), _relative(script)])


def _relative(path: str, *, follow: bool = True) -> str:
    """A path as the person in this folder would type it; a virtual environment's python is not to be followed."""
    absolute = Path(path).resolve() if follow else Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else path
