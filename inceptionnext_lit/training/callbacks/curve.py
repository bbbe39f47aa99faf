"""Resume a run's logged curves from its checkpoints, without missing or repeated rows.

A checkpoint stores the sums behind the current epoch's metrics and the number of logged rows. A resumed run drops the
rows logged after the checkpoint and continues with the sums, so it logs the same rows as an uninterrupted run.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torchmetrics import Metric

from inceptionnext_lit.lightning_compat import (
    epoch_results,
    is_accumulating,
    is_logged,
    logged_values,
    logger_step,
    mark_updated,
    state_names,
)
from inceptionnext_lit.training.callbacks.resume import KEY as POSITION

KEY = "curve"
SUMS = "sums"


@runtime_checkable
class CountsRows(Protocol):
    """A logger whose rows a resumed run keeps or drops by their number."""

    def rows_on_disk(self) -> int:
        """Write all rows and count them; called on the first rank."""
        ...


@dataclass(frozen=True)
class _MetricTotals:
    """A metric of the current epoch.

    Attributes:
        name: Name under which it is logged.
        place: Name of the metric among the module's submodules.
        metric: The metric.
        shown: Where it is shown, as arguments of ``log``.
    """

    name: str
    place: str
    metric: Metric
    shown: dict[str, bool]

    def totals(self) -> dict[str, Any]:
        """Return the metric's states over all ranks as plain data; all ranks must call this together."""
        with self.metric.sync_context():
            states = {name: getattr(self.metric, name) for name in state_names(self.metric)}
            return {"place": self.place, "states": states, "shown": self.shown}


@dataclass(frozen=True)
class _MeanTotals:
    """The mean of plain values logged in the current epoch.

    Attributes:
        name: Name under which it is logged.
        result: Lightning's running sum.
        shown: Where it is shown, as arguments of ``log``.
    """

    name: str
    result: Any
    shown: dict[str, bool]

    def totals(self) -> dict[str, Any]:
        """Return the sum and its divisor, over all ranks if Lightning will reduce them."""
        of_all = self.result.meta.sync
        pair = (self.result.value, self.result.cumulated_batch_size)
        total, weight = (of_all(part.clone()) if of_all.should else part.clone() for part in pair)
        return {"total": total, "weight": weight, "shown": self.shown}


class ExactCurve(Callback):
    """Store the current epoch's sums and the number of logged rows in checkpoints, and restore the sums.

    Must come after ``ExactResume``, whose position tells whether an epoch is running. Covers everything that the module
    logs with ``on_epoch`` as a ``torchmetrics.Metric``, and the values whose mean is logged in its training step. The
    first rank restores the totals over all ranks, whose number may change.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._means: dict[str, Any] = {}
        self._is_sharded = False
        self._at_step: list[_MetricTotals] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the sums, the number of rows, and the row that Lightning logs right after this hook, if any."""
        batches = checkpoint[POSITION]["batches"]
        if batches:
            repeats_step = batches < trainer.fit_loop.epoch_loop.batch_progress.current.ready
            running: list[_MetricTotals | _MeanTotals] = [
                *(self._at_step if repeats_step else _running(trainer)),
                *_means(trainer),
            ]
            checkpoint[SUMS] = {logged.name: logged.totals() for logged in running}
        pending = _pending(trainer, in_epoch=batches > 0)
        counting = [logger for logger in trainer.loggers if isinstance(logger, CountsRows)]
        rows = counting[0].rows_on_disk() if counting and trainer.is_global_zero else 0
        checkpoint[KEY] = {"rows": rows, "pending": pending}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the sums until the metrics have been moved to their device."""
        self._sums = checkpoint.get(SUMS, {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the sums and log them, since an epoch without remaining batches would not log them."""
        self._is_sharded = any(isinstance(parameter, DTensor) for parameter in pl_module.parameters())
        sums, self._sums = self._sums, {}
        for name, stored in sums.items():
            if "total" in stored:
                self._begin_mean(trainer, pl_module, name, stored)
                continue
            metric = cast(Metric, pl_module.get_submodule(stored["place"]))
            _restore(metric, stored["states"] if trainer.is_global_zero else {})
            pl_module.log(name, metric, on_step=False, on_epoch=True, batch_size=1, **stored["shown"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what was logged before the checkpoint to what the first batch after it logs."""
        means, self._means = self._means, {}
        for name, stored in means.items():
            for mean in _means(trainer):
                if mean.name == name and mean.result.meta.fx == "training_step":
                    mean.result.value = mean.result.value + stored["total"].to(mean.result.value)
                    weight = stored["weight"].to(mean.result.cumulated_batch_size)
                    mean.result.cumulated_batch_size = mean.result.cumulated_batch_size + weight

    def _begin_mean(self, trainer: Trainer, pl_module: LightningModule, name: str, stored: dict[str, Any]) -> None:
        """Log a mean so far; it is the epoch's if no batches remain."""
        if stored["weight"] == 0:
            return
        pl_module.log(name, stored["total"] / stored["weight"], on_step=False, on_epoch=True, **stored["shown"])
        for mean in _means(trainer):
            if mean.name == name:
                mean.result.value = stored["total"].to(mean.result.value)
                mean.result.cumulated_batch_size = stored["weight"].to(mean.result.cumulated_batch_size)
        if trainer.is_global_zero:
            self._means[name] = stored

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Copy the metrics at the start of a step; a sharded run resumes there, since its gradients are not saved."""
        accumulated = trainer.accumulate_grad_batches
        if self._is_sharded and accumulated > 1 and batch_idx % accumulated == 0:
            self._at_step = [replace(logged, metric=logged.metric.clone()) for logged in _running(trainer)]


def _running(trainer: Trainer) -> list[_MetricTotals]:
    """Return the metrics that Lightning computes and logs at the end of the epoch."""
    metrics = []
    for result in epoch_results(trainer):
        if result.meta.on_epoch and not result.is_tensor and not result.has_reset:
            shown = {"prog_bar": result.meta.prog_bar, "logger": result.meta.logger}
            name, place = result.meta.forked_name(on_step=False), cast(str, result.meta.metric_attribute)
            metrics.append(_MetricTotals(name, place, cast(Metric, result.value), shown))
    return metrics


def _means(trainer: Trainer) -> list[_MeanTotals]:
    """Return the plain values whose mean Lightning logs at the end of the epoch."""
    means = []
    for result in epoch_results(trainer):
        if result.meta.on_epoch and result.is_tensor and result.meta.is_mean_reduction and not result.has_reset:
            shown = {"prog_bar": result.meta.prog_bar, "logger": result.meta.logger}
            means.append(_MeanTotals(result.meta.forked_name(on_step=False), result, shown))
    return means


def _restore(metric: Metric, states: dict[str, Any]) -> None:
    """Replace a metric's states by totals."""
    for name, value in states.items():
        now = getattr(metric, name)
        setattr(metric, name, value.to(now) if isinstance(now, Tensor) else [part.to(metric.device) for part in value])
    mark_updated(metric)


def _pending(trainer: Trainer, *, in_epoch: bool) -> list[dict[str, Any]]:
    """Return the row that Lightning logs after the current hook, which a kill before that would lose.

    Args:
        trainer: The trainer.
        in_epoch: Whether the epoch continues when the run is resumed.
    """
    loop = trainer.fit_loop
    epochs, batches = cast(Any, loop.epoch_progress.current), cast(Any, loop.epoch_loop.batch_progress.current)
    step = logger_step(trainer)
    if not trainer.training:
        return []
    if epochs.processed > epochs.completed:
        if in_epoch:  # the epoch was cut short by max_steps
            return []
        step -= 1
    elif batches.processed == batches.completed or is_accumulating(trainer) or not is_logged(trainer):
        return []
    values = convert_tensors_to_scalars(logged_values(trainer))
    return [{"epoch": trainer.current_epoch, **values, "step": step}] if values else []
