"""The learning rate among a run's figures."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.lightning_compat import is_logged, logger_step


class RateMonitor(Callback):
    """Logs the greatest learning rate of all groups as ``lr``; Lightning's monitor has a name for each group."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log it beside the step's other figures."""
        if is_logged(trainer):
            step = logger_step(trainer)
            for logger in trainer.loggers:
                logger.log_metrics({"lr": peak_rate(trainer)}, step=step)


def peak_rate(trainer: Trainer) -> float:
    """The greatest learning rate of all groups."""
    return max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
