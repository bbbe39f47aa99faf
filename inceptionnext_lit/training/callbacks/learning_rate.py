"""Log the learning rate."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.lightning_compat import is_logged, logger_step


class LearningRateLogger(Callback):
    """Log the largest learning rate of all groups as ``lr``; Lightning's monitor logs one name per group."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log it with the step's other metrics."""
        if is_logged(trainer):
            step = logger_step(trainer)
            for logger in trainer.loggers:
                logger.log_metrics({"lr": peak_rate(trainer)}, step=step)


def peak_rate(trainer: Trainer) -> float:
    """Return the largest learning rate of all groups."""
    return max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
