"""Stopping on a signal: a checkpoint within one batch, then the exit code that the signal asks for."""

import os
import signal
import threading
from collections import deque
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from inceptionnext_lit.training.checkpoints import LastCheckpoint
from inceptionnext_lit.training.pending import Pending

# Ctrl-C; what kill, schedulers and container runtimes send; what SLURM's --signal sends ahead of a pre-emption
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has the first two
_LOADER_GRACE_S = 60


class Interrupted(SystemExit):
    """A run that was stopped by a signal.

    Args:
        signum: The signal.
        saved: Where the run is saved; None if nothing had been trained yet.
    """

    def __init__(self, signum: int, saved: str | None = None) -> None:
        # Lightning kills all processes when one that it has started ends with another code than 0
        started_by_lightning = int(os.environ.get("LOCAL_RANK", 0)) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ
        super().__init__(0 if started_by_lightning else 128 + signum)
        self.signum = signum
        self.saved = saved

    def __str__(self) -> str:
        """What happened, and how to continue."""
        name = signal.Signals(self.signum).name
        if self.saved is None:
            return f"Stopped by {name}; there was nothing to save yet."
        return f"Stopped by {name}; saved {self.saved}. The same command with --ckpt_path last continues."


class SaveOnSignal(Checkpoint):
    """Saves and stops a run that gets a signal, on all processes in the same batch.

    Several GPUs agree on that one batch later, when it is known without waiting for the newest batch. Before training,
    and at the second signal, the process ends at once. (A checkpoint callback, because Lightning calls those after all
    others, which may have found that this batch must not be saved.)
    """

    def __init__(self) -> None:
        self._received = 0
        self._training = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._asked: deque[Pending] = deque()

    def listen(self) -> None:
        """Take over the signals from now on; Python lets only the main thread do that."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            previous = signal.signal(signum, self._receive)
            self._before.setdefault(signum, previous)

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a loader process, which is needed until the batch is trained and saved
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LOADER_GRACE_S)
        elif self._received or not self._training:
            raise Interrupted(signum)
        else:
            self._received = signum

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save."""
        self.listen()  # Lightning has put its own handler for SIGTERM over ours
        self._training = True
        self._asked.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if any process has got a signal; the batch's figures are logged before."""
        if signum := self._agreed(trainer):
            trainer._logger_connector.on_batch_end()
            trainer._logger_connector.update_train_step_metrics()
            self._stop(trainer, signum)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here if any process has got a signal; the validation is repeated when the run continues."""
        if not trainer.sanity_checking and (signum := self._agreed(trainer)):
            self._stop(trainer, signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What comes now is short, and everything is saved."""
        self._training = False

    def _agreed(self, trainer: Trainer) -> int:
        """The greatest of the signals that the processes have got, or 0; on several GPUs, up to the last batch."""
        if trainer.world_size == 1:
            return self._received
        number = torch.full((), self._received, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        self._asked.append(Pending(number))
        return int(self._asked.popleft().read()) if len(self._asked) > int(self._asked[-1].is_late) else 0

    def _stop(self, trainer: Trainer, signum: int) -> None:
        last = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        if last is not None:
            last.save_now(trainer)
        self._training = False
        raise Interrupted(signum, None if last is None else last.best_model_path)
