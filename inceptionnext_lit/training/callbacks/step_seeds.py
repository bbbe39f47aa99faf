"""One seed for all ranks, and random draws that depend on the step alone."""

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.seeding import VARIABLE, run_seed, seed_generators


class SeedSteps(Callback):
    """Seed the generators in each step from the run's seed, the epoch, the batch and the rank.

    A resumed run then draws what the uninterrupted run would have drawn: mixing, stochastic depth and dropout.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Use the first rank's seed on all ranks."""
        os.environ[VARIABLE] = str(trainer.strategy.broadcast(run_seed()))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the random draws of this step."""
        seed_generators(run_seed(), "step", trainer.current_epoch, batch_idx, trainer.global_rank)
