"""Stopping on a signal: a checkpoint within one batch, then the exit code that the signal asks for."""

import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from inceptionnext_lit.lightning_compat import log_batch
from inceptionnext_lit.training.callbacks.checkpoints import LastCheckpoint
from inceptionnext_lit.training.pending import Pending
from inceptionnext_lit.training.processes import SIGNALS

_LOADER_GRACE_S = 60


class Interrupted(SystemExit):
    """A run that was stopped by a signal.

    Args:
        signum: The signal.
        saved: Where the run is saved; None if it ended at once.
        earlier: The newest checkpoint that there was before; None if nothing had been saved yet.
    """

    def __init__(self, signum: int, saved: str | None = None, earlier: Path | None = None) -> None:
        # Lightning kills all processes when one that it has started ends with another code than 0
        started_by_lightning = int(os.environ.get("LOCAL_RANK", 0)) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ
        super().__init__(0 if started_by_lightning else 128 + signum)
        self.signum = signum
        self.saved = saved
        self.earlier = earlier

    def __str__(self) -> str:
        """What happened, and how to continue."""
        name = signal.Signals(self.signum).name
        if self.saved is None and self.earlier is None:
            return f"Stopped by {name}; there was nothing to save yet."
        state = f"saved {self.saved}" if self.saved is not None else f"the last save is {self.earlier}"
        return f"Stopped by {name}; {state}. The same command with --ckpt_path last continues."


class SaveOnSignal(Checkpoint):
    """Saves and stops a run that gets a signal, on all processes in the same batch.

    Several GPUs agree on that one batch later, when it is known without waiting for the newest batch. Before training,
    and at the second signal, the process ends at once. (A checkpoint callback, because Lightning calls those after all
    others, which may have found that this batch must not be saved.)

    Args:
        signals: What stops a run. A signal that this process is to ignore, as ``nohup`` and a shell's background jobs
            have it, is left alone.

    Attributes:
        earlier: Where the newest checkpoint is, or will be.
    """

    def __init__(self, signals: Sequence[int] = SIGNALS) -> None:
        self.earlier: Path | None = None
        self._signals = signals
        self._received = 0
        self._training = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._asked: deque[Pending] = deque()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def listen(self) -> None:
        """Take over the signals from now on; Python lets only the main thread do that."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in self._signals:
            if signal.getsignal(signum) != signal.SIG_IGN:
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
            there = self.earlier is not None and self.earlier.is_file()
            raise Interrupted(signum, earlier=self.earlier if there else None)
        else:
            self._received = signum

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save."""
        self.listen()  # Lightning has put its own handler for SIGTERM over ours
        self._training = True
        self._asked.clear()
        if (last := _last_checkpoint(trainer)) is not None and last.dirpath is not None:
            self.earlier = Path(last.dirpath, "last.ckpt")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if any process has got a signal; the batch's figures are logged before."""
        if signum := self._agreed(trainer):
            log_batch(trainer)
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
        last = _last_checkpoint(trainer)
        if last is not None:
            last.save_now(trainer)
        self._training = False
        raise Interrupted(signum, None if last is None else last.best_model_path)


def _last_checkpoint(trainer: Trainer) -> LastCheckpoint | None:
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
