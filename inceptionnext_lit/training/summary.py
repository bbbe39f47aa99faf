"""What a run says at its start and at its end."""

import shlex
import shutil
import sys
from collections.abc import Sized
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch.utils.data import DataLoader

from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from inceptionnext_lit.training.checkpoints import BestCheckpoint, LastCheckpoint


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
