"""Callback that acts on a run's processes at a given moment, which tests give on the command line."""

import os
import signal
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit import safe_save

Moment = Literal["batch", "validating", "predicting", "saving", "fetching"]


class At(Callback):
    """Send a signal, insert a NaN or fail at the n-th moment of a type.

    Args:
        moment: The end of a training, validation or prediction batch, or just before a written file is renamed.
        number: Index of the moment, from 1.
        what: Name of a signal for this process, or for its parent after ``parent:``; ``worker`` kills a loader process;
            ``nan`` sets the weights to NaN; ``memory`` allocates more than available; ``full`` puts ``metrics.csv`` on
            a full disk; ``raise`` raises an error.
        rank: The rank in which it happens.
    """

    def __init__(self, moment: Moment, number: int, what: str, rank: int = 0) -> None:
        self.moment, self.number, self.what, self.rank = moment, number, what, rank
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.moment == "saving":
            replace = os.replace

            def dangerous(*args: Any) -> None:
                self._tick(trainer, pl_module)
                replace(*args)

            safe_save.os.replace = dangerous

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.what in ("nan", "memory", "raise"):
            self._tick(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self.moment == "batch" and self.what not in ("nan", "memory", "raise"):
            self._tick(trainer, pl_module)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self.moment == "validating":
            self._tick(trainer, pl_module)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self.moment == "predicting":
            self._tick(trainer, pl_module)

    def _tick(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen += 1
        if self._seen != self.number or trainer.global_rank != self.rank:
            return
        Path("moment").write_text(str(time.time()))
        if self.what == "nan":
            torch.nn.init.constant_(next(pl_module.model.parameters()), float("nan"))
        elif self.what == "memory":
            torch.empty(2**60)
        elif self.what == "full":
            table = Path(str(trainer.log_dir), "metrics.csv")
            table.unlink(missing_ok=True)
            table.symlink_to("/dev/full")
        elif self.what == "raise":
            raise ValueError("an error of one process")
        elif self.what == "worker":
            iterator: Any = trainer.train_dataloader._iterator
            os.kill(iterator._workers[0].pid, signal.SIGKILL)
            time.sleep(0.5)
        else:
            to_parent, _, name = self.what.rpartition(":")
            os.kill(os.getppid() if to_parent else os.getpid(), getattr(signal, name))


class Seen(Callback):
    """Record the trainer and the task at the first batch of the second epoch."""

    trainer: Any
    task: Any
    average: dict[str, torch.Tensor] | None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.current_epoch == 1:
            Seen.trainer, Seen.task = trainer, pl_module
            average = Seen.task.model_ema
            state = {} if average is None else average.module.state_dict()
            Seen.average = {key: value.clone() for key, value in state.items()}
