"""Summary lines that a run prints at its start and at its end."""

import math
import shlex
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from inceptionnext_lit.console import LineConsole
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.preprocessing import height_and_width, size_text
from inceptionnext_lit.program import exact_name, relative
from inceptionnext_lit.training.bottleneck import WaitingClock, verdict
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from inceptionnext_lit.training.clock import TrainingClock, format_seconds
from inceptionnext_lit.wording import count

_ESTIMATE_AFTER = 50


class RunSummary(Callback):
    """Print at the start what is trained on what, and at the end the results and the next command.

    After fifty steps it prints an estimate of the run's training time, without validation, and whether the model waits
    for the loader. Runs of fewer than a hundred steps print only the latter, at the end.

    Args:
        count_macs: Counts the multiply-adds of a model for an image of (channels, height, width); None if it cannot.
    """

    def __init__(self, count_macs: Callable[[nn.Module, tuple[int, int, int]], int | None] | None = None) -> None:
        self._out = LineConsole()
        self._count_macs = count_macs
        self._macs: int | None = None
        self._clock = TrainingClock()
        self._began = False
        self._first_step = 0
        self._estimated = False
        self._waiting = WaitingClock()
        self._has_verdict = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Count multiply-adds before the model is wrapped or sharded."""
        preprocessing, model = (getattr(pl_module, name, None) for name in ("preprocessing", "model"))
        if trainer.is_global_zero and self._count_macs is not None and preprocessing and isinstance(model, nn.Module):
            self._macs = self._count_macs(model, (len(preprocessing["mean"]), *height_and_width(preprocessing)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what is trained on what, on the first rank."""
        self._began = True
        folder = trainer.log_dir  # a broadcast, so every rank must read it
        self._first_step = trainer.global_step
        self._clock.reset()
        if not trainer.is_global_zero:
            return
        # another LightningModule may lack some of these attributes
        name, loader = pl_module.hparams.get("name", type(pl_module).__name__), trainer.train_dataloader
        counted = getattr(pl_module, "model", pl_module)
        params, trained = _count(counted, trained=False), _count(counted, trained=True)
        part = "" if trained == params else f" ({trained:,} of them are trained)"
        classes = getattr(pl_module, "num_classes", None)
        rate = pl_module.hparams.get("lr")
        macs = "" if self._macs is None else f", {self._macs / 1e9:.3g} G multiply-adds an image"
        device = f"on {pl_module.device}, {trainer.precision}"
        self._out.print(f"Model:      {name}, {params / 1e6:.2f} M parameters{part}{macs}, {device}")
        if (teacher := getattr(pl_module, "teacher", None)) is not None:
            self._out.print(f"Teacher:    {self._describe(teacher)}")
        self._out.print(
            f"Data:       {count(len(cast(Sized, cast(DataLoader[Any], loader).dataset)), 'training image')}"
            + ("; " if classes is None else f" of {count(classes, 'class', 'classes')}; ")
            + step_arithmetic(trainer)
            + ("; " if rate is None else f", lr {rate:g} for them; ")
            + _steps(trainer)
        )
        if folder is not None:
            self._out.print(f"Run folder: {relative(folder)}")
        if self._first_step:
            epoch = trainer.current_epoch + 1
            self._out.print(f"Continues:  {trainer.ckpt_path} after step {self._first_step}, in epoch {epoch}")

    def _describe(self, teacher: Any) -> str:
        """Describe a teacher and what its forward pass adds to a step of the model."""
        input_ = teacher.preprocessing
        shape = (len(input_["mean"]), *height_and_width(input_))
        macs = None if self._count_macs is None else self._count_macs(teacher.model, shape)
        cost = "" if macs is None else f", {macs / 1e9:.3g} G multiply-adds an image"
        if macs is not None and self._macs:
            # a backward pass has the products for the gradients of inputs and of weights
            cost += f", {macs / (3 * self._macs):.0%} of the model's forward and backward pass"
        return (
            f"{teacher.title}, {_count(teacher.model, trained=False) / 1e6:.2f} M parameters{cost}; images of "
            f"{size_text(input_)} pixels, mean {input_['mean']}, std {input_['std']}"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the estimate once it is known."""
        self._waiting.ask()
        self._clock.tick(len(batch[0]) * trainer.world_size)
        done = trainer.global_step - self._first_step
        if self._estimated or done < _ESTIMATE_AFTER:
            return
        self._estimated = True
        steps = trainer.estimated_stepping_batches - self._first_step
        if trainer.is_global_zero and steps >= 2 * _ESTIMATE_AFTER and math.isfinite(steps):
            progressive = getattr(datamodule_of(trainer), "progressive", None)
            growth = 1.0 if progressive is None else progressive.cost_of_rest(trainer.current_epoch)
            duration = format_seconds(self._clock.seconds / done * steps * growth)
            speed = f"{self._clock.images_per_s:.0f} img/s"
            self._out.print(f"Estimate:   {duration} for {count(int(steps), 'step')} at {speed}")
            self._print_verdict(trainer)

    def _print_verdict(self, trainer: Trainer) -> None:
        """Print whether the model waits for images."""
        workers = cast(DataLoader[Any], trainer.train_dataloader).num_workers
        augmentation = getattr(datamodule_of(trainer), "augmentation", None)
        self._out.print(f"Loader:     {verdict(self._waiting.share, workers, augmentation)}")
        self._has_verdict = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that the epoch's first batch is requested."""
        self._waiting.begin_epoch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record that a batch has arrived."""
        self._waiting.receive()

    def leave_out(self, seconds: float) -> None:
        """Leave out time that was spent on something else than training."""
        self._clock.leave_out(seconds)
        self._waiting.leave_out(seconds)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation from the comparison of loader and model."""
        self._waiting.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the validation from the training time."""
        self._clock.skip()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the results, on the first rank."""
        if not trainer.is_global_zero:
            return
        if not self._has_verdict and self._waiting.worked:
            self._print_verdict(trainer)
        noted = getattr(datamodule_of(trainer), "skipped", None)
        if noted is not None and (skipped := noted.read()):
            listed = relative(str(noted.path))
            self._out.print(f"Skipped:    {count(len(skipped), 'unreadable image')}, listed in {listed}")
        if not self._began:
            self._out.print(
                "Nothing was trained: trainer.max_epochs, max_steps or limit_train_batches leave no steps to do."
            )
        best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
        last = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        checkpoint = last.best_model_path if last is not None else ""
        if best is not None and best.best_model_score is not None and Path(best.best_model_path).is_file():
            checkpoint = best.best_model_path
            epoch = read_checkpoint(checkpoint, mmap=True)["epoch"] + 1
            self._out.print(f"Best:       {best.monitor} {float(best.best_model_score):.4f} in epoch {epoch}")
        if checkpoint:
            path = shlex.quote(relative(checkpoint))
            self._out.print(f"Checkpoint: {path}")
            if getattr(pl_module, "can_predict", False):
                output = getattr(pl_module, "predictions_name", "labels.csv")
                words = f"predict FOLDER_OR_IMAGE --ckpt_path {path} --output {output}"
            else:
                config = shlex.quote(str(Path(path).parents[1] / "config.yaml"))
                words = f"validate --config {config} --ckpt_path {path}"
            self._out.print(f"Next:       {exact_name()} {words}")
            if getattr(pl_module, "can_predict", False):
                folder = shlex.quote(str(Path(relative(checkpoint)).parents[1] / "report"))
                self._out.print(f"Evaluate:   {exact_name()} evaluate {path} --split val --output {folder}")


def step_arithmetic(trainer: Trainer) -> str:
    """Describe how the images of an optimizer step are made up."""
    size, accumulated = cast(Any, trainer.train_dataloader).batch_size, trainer.accumulate_grad_batches
    total = size * trainer.world_size * accumulated
    devices = count(trainer.world_size, "device")
    return f"{total} a step = {size} × {devices} × {accumulated} accumulated"


def _count(module: nn.Module, *, trained: bool) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trained)


def _steps(trainer: Trainer) -> str:
    steps = trainer.estimated_stepping_batches
    total = count(int(steps), "step") if math.isfinite(steps) else "steps without an end"
    if trainer.max_steps != -1 or trainer.max_epochs in (None, -1):
        return total
    per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return f"{count(trainer.max_epochs, 'epoch')} × {per_epoch} = {total}"
