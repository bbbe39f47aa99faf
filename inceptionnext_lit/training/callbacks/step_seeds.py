"""One seed for all processes, and draws that depend on the step alone."""

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.seeding import VARIABLE, run_seed, seed_generators


class SeedSteps(Callback):
    """Seeds the generators in each step, from the run's seed, the epoch, the batch and the process.

    A run that is continued so draws what the whole run would have drawn: mixing, stochastic depth, dropout.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the first process's seed."""
        os.environ[VARIABLE] = str(trainer.strategy.broadcast(run_seed()))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed what this step draws."""
        seed_generators(run_seed(), "step", trainer.current_epoch, batch_idx, trainer.global_rank)
