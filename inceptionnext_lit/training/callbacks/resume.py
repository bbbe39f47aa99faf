"""Resume a run at exactly the batch where its checkpoint was written.

Lightning 2.6 counts epochs and batches in the state of its loops, but a run resumed from it repeats the epoch's first
batches, skips an epoch after a save on an epoch's last batch, and loses the validation that was still due. Here a
checkpoint also stores the position of the run; when it is loaded, the state of the loops is rewritten from the
position, in the same form for every save.
"""

from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.tensor import DTensor

from inceptionnext_lit.lightning_compat import (
    begin_whole_epoch,
    datamodule_of,
    end_batches,
    fetch_again,
    is_accumulating,
    set_logger_step,
    training_loaders,
    will_validate,
)

KEY = "position"
GRADIENTS = "gradients"
_COUNTS = ("ready", "started", "processed", "completed")


@dataclass(frozen=True)
class Position:
    """Position of a run.

    Attributes:
        epoch: Finished epochs.
        batches: Batches of the next epoch that each rank has trained on.
        images_per_batch: Images of one of these batches over all ranks.
        validated: Whether the validation due after them, if any, is done.
    """

    epoch: int
    batches: int
    images_per_batch: int
    validated: bool


class ExactResume(Callback):
    """Store a run's position and partly accumulated gradients in its checkpoints, and resume there.

    The order of the images must come from a sampler with ``start(epoch, skipped)``, such as the data module's; with any
    other loader, an epoch that was interrupted starts again from its first images.
    """

    def __init__(self) -> None:
        self._validated = False
        self._start: Position | None = None
        self._gradients: dict[str, Tensor] = {}
        self._orders_anew = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record that a validation from now on is a new one."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that the validation is done; checkpoint callbacks run after this one."""
        self._validated = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the position and, in the middle of an accumulation, the gradients so far as the mean over ranks."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        gradients = {}
        if batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches:
            gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        if any(isinstance(gradient, DTensor) for gradient in gradients.values()):  # sharded: repeat that step
            batches -= batches % trainer.accumulate_grad_batches
            gradients = {}
        checkpoint[KEY] = asdict(self._position(trainer, batches))
        if gradients:
            checkpoint[GRADIENTS] = {
                name: cast(Tensor, trainer.strategy.reduce(gradient.detach().clone(), reduce_op="mean"))
                for name, gradient in gradients.items()
            }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rewrite the state of the loops from the position."""
        # other commands than fit have no training images, on which the position depends
        if KEY not in checkpoint or trainer.state.fn != TrainerFn.FITTING:
            return
        stored = Position(**checkpoint[KEY])
        if callable(resume_at := getattr(datamodule_of(trainer), "resume_at", None)):
            resume_at(stored.epoch)
        now = _images_per_batch(trainer, stored.epoch) or stored.images_per_batch
        batches = stored.batches * stored.images_per_batch // now
        self._start = Position(stored.epoch, batches, now, stored.validated)
        self._gradients = checkpoint.get(GRADIENTS, {}) if now == stored.images_per_batch else {}
        set_loops(checkpoint["loops"]["fit_loop"], self._start)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the interrupted epoch after the images that it has already used."""
        start, self._start = self._start, None
        if start is None:
            return
        if start.batches == 0:
            begin_whole_epoch(trainer)
        ours = [loader for loader in training_loaders(trainer) if hasattr(getattr(loader, "sampler", None), "start")]
        for loader in ours:
            loader.sampler.start(start.epoch, start.batches * loader.batch_size)
        self._orders_anew = start.batches == 0 and not ours
        if not self._orders_anew:
            fetch_again(trainer)
        if start.batches >= trainer.num_training_batches:  # loaders may have more, if their batches are limited
            end_batches(trainer)
        # Lightning increments the loggers' step after a validation, so a repeated validation would increment it again
        again = start.batches > 0 and not is_accumulating(trainer) and will_validate(trainer)
        set_logger_step(trainer, trainer.global_step - int(again))
        for name, parameter in pl_module.named_parameters():
            if name in self._gradients:
                parameter.grad = torch.empty_like(parameter).copy_(self._gradients[name])
        self._gradients = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a loader that shuffles by torch's generator draw a whole epoch's order from the epoch's seed."""
        if self._orders_anew:
            self._orders_anew = False
            fetch_again(trainer)

    def _position(self, trainer: Trainer, batches: int) -> Position:
        epochs = cast(Any, trainer.fit_loop.epoch_progress.current)
        begun, finished = epochs.ready, epochs.processed
        if begun == finished:  # between two epochs, unless the last one was cut short by max_steps
            cut_short = 0 < batches < trainer.num_training_batches
            finished, batches = (finished - 1, batches) if cut_short else (finished, 0)
        return Position(finished, batches, _images_per_batch(trainer, finished) or 1, self._validated)


def set_loops(state: dict[str, Any], start: Position) -> None:
    """Rewrite the state of Lightning's loops so that a run resumes at a position.

    Args:
        state: The checkpoint's ``loops/fit_loop``, changed in place; counts over the whole run are kept.
        start: Where to resume.
    """
    begun = start.epoch + (start.batches > 0)
    for scope in ("total", "current"):
        counts = (begun, begun, start.epoch, start.epoch)
        state["epoch_progress"][scope] = dict(zip(_COUNTS, counts, strict=True))
    progress = state["epoch_loop.batch_progress"]
    progress["total"] = dict.fromkeys(_COUNTS, progress["total"]["ready"])
    progress["current"] = dict.fromkeys(_COUNTS, start.batches)
    progress["is_last_batch"] = progress["is_last_batch"] and start.batches > 0
    validation = state["epoch_loop.val_loop.batch_progress"]
    # Lightning marks an interrupted validation by one batch started and not finished
    pending = (1, 1, 0, 0) if start.batches > 0 and not start.validated else (0, 0, 0, 0)
    validation["total"] = dict(zip(_COUNTS, pending, strict=True))
    validation["current"] = dict.fromkeys(_COUNTS, 0)
    validation["is_last_batch"] = False


def _images_per_batch(trainer: Trainer, epoch: int) -> int | None:
    data = datamodule_of(trainer)
    of_epoch = getattr(data, "training_batch_size", None)
    size = of_epoch(epoch) if callable(of_epoch) else getattr(data, "batch_size", None)
    return int(size) * trainer.world_size if isinstance(size, Integral) else None
