"""Continuing a run at the very batch where its checkpoint was written.

Lightning 2.6 counts epochs and batches in its loops' state, but a run that is continued from it repeats the epoch's
first batches, skips an epoch after a save on an epoch's last batch, and loses the validation that was still to come.
Here a checkpoint also says in plain words how far the run was; when it is loaded, the loops' state is written anew from
that, in one form, whatever the moment of the save.
"""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from inceptionnext_lit.lightning_compat import (
    begin_whole_epoch,
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
    """How far a run is.

    Attributes:
        epoch: Epochs that are finished.
        batches: Batches of the next epoch that each process has trained on.
        images_per_batch: Images in one of these batches over all processes.
        validated: Whether the validation that may be due after them is done.
    """

    epoch: int
    batches: int
    images_per_batch: int
    validated: bool


class ExactResume(Callback):
    """Writes a run's position and half-accumulated gradients into its checkpoints, and continues there.

    The order of the images has to be that of a sampler with ``start(epoch, skipped)``, such as the data module's; with
    any other loader the epoch in which the checkpoint was written begins with its first images again.
    """

    def __init__(self) -> None:
        self._validated = False
        self._start: Position | None = None
        self._gradients: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember that a validation from now on is a new one."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the validation is done; checkpoint callbacks come after this one."""
        self._validated = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the position, and in the middle of an accumulation the gradients so far, as the processes' mean."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        gradients = {}
        if batches % trainer.accumulate_grad_batches and batches < trainer.num_training_batches:
            gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        if any(isinstance(gradient, DTensor) for gradient in gradients.values()):  # sharded: that step starts afresh
            batches -= batches % trainer.accumulate_grad_batches
            gradients = {}
        checkpoint[KEY] = asdict(self._position(trainer, batches))
        if gradients:
            checkpoint[GRADIENTS] = {
                name: cast(Tensor, trainer.strategy.reduce(gradient.detach().clone(), reduce_op="mean"))
                for name, gradient in gradients.items()
            }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the loops' state anew from the position."""
        if KEY not in checkpoint:
            return
        stored = Position(**checkpoint[KEY])
        now = _images_per_batch(trainer) or stored.images_per_batch
        batches = stored.batches * stored.images_per_batch // now
        self._start = Position(stored.epoch, batches, now, stored.validated)
        self._gradients = checkpoint.get(GRADIENTS, {}) if now == stored.images_per_batch else {}
        set_loops(checkpoint["loops"]["fit_loop"], self._start)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the interrupted epoch after the images that it has already seen."""
        start, self._start = self._start, None
        if start is None:
            return
        if start.batches == 0:
            begin_whole_epoch(trainer)
        for loader in training_loaders(trainer):
            if hasattr(loader.sampler, "start"):
                loader.sampler.start(start.epoch, start.batches * loader.batch_size)
        fetch_again(trainer)
        # the loggers' step, which Lightning counts on after a validation; where one is repeated it counts again
        again = start.batches > 0 and not is_accumulating(trainer) and will_validate(trainer)
        set_logger_step(trainer, trainer.global_step - int(again))
        for name, parameter in pl_module.named_parameters():
            if name in self._gradients:
                parameter.grad = torch.empty_like(parameter).copy_(self._gradients[name])
        self._gradients = {}

    def _position(self, trainer: Trainer, batches: int) -> Position:
        epochs = cast(Any, trainer.fit_loop.epoch_progress.current)
        begun, finished = epochs.ready, epochs.processed
        if begun == finished:  # between two epochs, if the last one was not cut short by max_steps
            cut_short = 0 < batches < trainer.num_training_batches
            finished, batches = (finished - 1, batches) if cut_short else (finished, 0)
        return Position(finished, batches, _images_per_batch(trainer) or 1, self._validated)


def set_loops(state: dict[str, Any], start: Position) -> None:
    """Write the state of Lightning's loops so that a run continues at a position.

    Args:
        state: The checkpoint's ``loops/fit_loop``, changed in place. Counts over the whole run stay.
        start: Where to continue.
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
    # Lightning's sign of an interrupted validation is one batch begun and not ended
    pending = (1, 1, 0, 0) if start.batches > 0 and not start.validated else (0, 0, 0, 0)
    validation["total"] = dict(zip(_COUNTS, pending, strict=True))
    validation["current"] = dict.fromkeys(_COUNTS, 0)
    validation["is_last_batch"] = False


def _images_per_batch(trainer: Trainer) -> int | None:
    size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    return None if size is None else size * trainer.world_size
