"""Save a checkpoint and stop within one batch of a signal, with the signal's exit code."""

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
    """Exit of a run that was stopped by a signal.

    Args:
        signum: The signal.
        saved: Path of the checkpoint saved on the signal; None if the run ended at once.
        earlier: Path of the newest earlier checkpoint, if any.
    """

    def __init__(self, signum: int, saved: str | None = None, earlier: Path | None = None) -> None:
        # Lightning kills all ranks when one that it has started exits with a nonzero code
        started_by_lightning = int(os.environ.get("LOCAL_RANK", 0)) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ
        super().__init__(0 if started_by_lightning else 128 + signum)
        self.signum = signum
        self.saved = saved
        self.earlier = earlier

    def __str__(self) -> str:
        """Return what happened, and how to continue."""
        name = signal.Signals(self.signum).name
        if self.saved is None and self.earlier is None:
            return f"Stopped by {name}; there was nothing to save yet."
        state = f"saved {self.saved}" if self.saved is not None else f"the last save is {self.earlier}"
        return f"Stopped by {name}; {state}. The same command with --ckpt_path last continues."


class SaveOnSignal(Checkpoint):
    """Save and stop a run that receives a signal, on all ranks in the same batch.

    On several GPUs the ranks agree one batch later, when the signal is known without waiting for the newest batch.
    Before training, and on the second signal, the process exits at once. This is a checkpoint callback because
    Lightning calls those last, and another callback may have found that this batch must not be saved.

    Args:
        signals: Signals that stop a run. One that this process ignores, as under ``nohup`` or in a shell's background
            job, is still ignored.

    Attributes:
        earlier: Path of the newest checkpoint, which may not exist yet.
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
        """Install the signal handlers; does nothing outside the main thread, where Python does not allow it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in self._signals:
            if signal.getsignal(signum) != signal.SIG_IGN:
                previous = signal.signal(signum, self._receive)
                self._before.setdefault(signum, previous)

    def release(self) -> None:
        """Restore the previous signal handlers."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a loader worker, which is needed until the batch is trained and saved
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LOADER_GRACE_S)
        elif self._received or not self._training:
            there = self.earlier is not None and self.earlier.is_file()
            raise Interrupted(signum, earlier=self.earlier if there else None)
        else:
            self._received = signum

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on signals from now on."""
        self.listen()  # Lightning has replaced our SIGTERM handler by its own
        self._training = True
        self._asked.clear()
        if (last := _last_checkpoint(trainer)) is not None and last.dirpath is not None:
            self.earlier = Path(last.dirpath, "last.ckpt")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any rank has received a signal, after logging the batch's metrics."""
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
        """Stop if any rank has received a signal; the validation is repeated when the run is resumed."""
        if not trainer.sanity_checking and (signum := self._agreed(trainer)):
            self._stop(trainer, signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop saving on signals: everything is saved."""
        self._training = False

    def _agreed(self, trainer: Trainer) -> int:
        """Return the largest signal number received by any rank, or 0; on several GPUs, up to the previous batch."""
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
