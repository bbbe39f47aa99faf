"""One seed for all ranks, and random draws that depend on the epoch and the step alone."""

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.seeding import (
    VARIABLE,
    generator_states,
    given_seed,
    restore_generators,
    run_seed,
    seed_generators,
)


class SeedSteps(Callback):
    """Seed the generators in each step from the run's seed, the epoch, the batch and the rank.

    A resumed run then draws what the uninterrupted run would have drawn: mixing, stochastic depth and dropout, and the
    order of a loader that shuffles by torch's generator. Afterwards, the generators continue where they were before the
    run, and a seed that was drawn for it is forgotten, so that the next run in the same process is another one.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._is_drawn = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Use the first rank's seed on all ranks."""
        self._is_drawn = given_seed() is None
        os.environ[VARIABLE] = str(trainer.strategy.broadcast(run_seed()))
        self._before = generator_states() if stage == "fit" else None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the order of the first epoch: Lightning asks the loaders for it before ``on_train_epoch_start``."""
        _seed_epoch(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the order of the epoch that a run is resumed in."""
        _seed_epoch(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the order of the epoch."""
        _seed_epoch(trainer.current_epoch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the random draws of this step."""
        seed_generators(run_seed(), "step", trainer.current_epoch, batch_idx, trainer.global_rank)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the generators."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the generators."""
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            restore_generators(self._before)
            self._before = None
        if self._is_drawn:
            os.environ.pop(VARIABLE, None)
            self._is_drawn = False


def _seed_epoch(epoch: int) -> None:
    seed_generators(run_seed(), "epoch", epoch)  # the same on all ranks
