"""Step ``ReduceLROnPlateau`` before the checkpoints at the end of an epoch are written."""

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inceptionnext_lit.lightning_compat import epoch_is_over


class StepOnPlateau(Callback):
    """Step ``ReduceLROnPlateau`` after each epoch's validation, before checkpoints are written.

    Lightning steps it after they are written, and not at all if a run is resumed from one of them.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step, unless the epoch continues."""
        is_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not (is_training and epoch_is_over(trainer)):
            return
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                cast(ReduceLROnPlateau, config.scheduler).step(trainer.callback_metrics[str(config.monitor)])
