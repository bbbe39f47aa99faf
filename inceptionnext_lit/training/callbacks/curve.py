"""A run's curves belong to its checkpoints, like its place among the images.

A checkpoint holds the sums behind the figures of the running epoch, and tells how many rows of figures were logged when
it was written. A continued run drops the rows that came later, goes on with the sums, and so logs the same rows as a
run that nothing happened to.
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
    """A logger whose rows a continued run keeps or drops by their number."""

    def rows_on_disk(self) -> int:
        """Write all rows and count them; the first process is asked."""
        ...


@dataclass(frozen=True)
class _Figure:
    """A figure of the running epoch.

    Attributes:
        name: Under which it is logged.
        place: Name of the metric among the module's submodules.
        metric: What computes it.
        shown: Where it is shown, as arguments of ``log``.
    """

    name: str
    place: str
    metric: Metric
    shown: dict[str, bool]

    def totals(self) -> dict[str, Any]:
        """The metric's states over all processes, which have to call this together, as plain data."""
        with self.metric.sync_context():
            states = {name: getattr(self.metric, name) for name in state_names(self.metric)}
            return {"place": self.place, "states": states, "shown": self.shown}


@dataclass(frozen=True)
class _Mean:
    """A figure of the running epoch that is logged as plain values, whose mean Lightning takes.

    Attributes:
        name: Under which it is logged.
        result: Where Lightning adds up.
        shown: Where it is shown, as arguments of ``log``.
    """

    name: str
    result: Any
    shown: dict[str, bool]

    def totals(self) -> dict[str, Any]:
        """The sum and what it is divided by, of all processes if Lightning will take theirs together."""
        of_all = self.result.meta.sync
        pair = (self.result.value, self.result.cumulated_batch_size)
        total, weight = (of_all(part.clone()) if of_all.should else part.clone() for part in pair)
        return {"total": total, "weight": weight, "shown": self.shown}


class ExactCurve(Callback):
    """Writes the sums of the running epoch and the number of logged rows into checkpoints, and goes on with the sums.

    It has to come after ``ExactResume``, whose position tells whether an epoch is running. The sums are those of all
    that the module logs with ``on_epoch`` as a ``torchmetrics.Metric``, or in its training step as values whose mean is
    taken. The first process goes on with the totals over all processes, whose number may change.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._means: dict[str, Any] = {}
        self._is_sharded = False
        self._at_step: list[_Figure] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the sums, the number of rows, and the row that Lightning logs right after this moment, if any."""
        batches = checkpoint[POSITION]["batches"]
        if batches:
            repeats_step = batches < trainer.fit_loop.epoch_loop.batch_progress.current.ready
            running: list[_Figure | _Mean] = [*(self._at_step if repeats_step else _running(trainer)), *_means(trainer)]
            checkpoint[SUMS] = {figure.name: figure.totals() for figure in running}
        pending = _pending(trainer, in_epoch=batches > 0)
        counting = [logger for logger in trainer.loggers if isinstance(logger, CountsRows)]
        rows = counting[0].rows_on_disk() if counting and trainer.is_global_zero else 0
        checkpoint[KEY] = {"rows": rows, "pending": pending}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the sums until the metrics are on their device."""
        self._sums = checkpoint.get(SUMS, {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the sums, and log them: where the epoch has no batch left, nothing else would."""
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
        """Add what was logged before the checkpoint to what the first batch after it has logged."""
        means, self._means = self._means, {}
        for name, stored in means.items():
            for mean in _means(trainer):
                if mean.name == name and mean.result.meta.fx == "training_step":
                    mean.result.value = mean.result.value + stored["total"].to(mean.result.value)
                    weight = stored["weight"].to(mean.result.cumulated_batch_size)
                    mean.result.cumulated_batch_size = mean.result.cumulated_batch_size + weight

    def _begin_mean(self, trainer: Trainer, pl_module: LightningModule, name: str, stored: dict[str, Any]) -> None:
        """Log a mean so far, which stays the epoch's if there is no batch left."""
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
        """Keep a copy at the beginning of a step, to which sharded weights return for want of its gradients."""
        accumulated = trainer.accumulate_grad_batches
        if self._is_sharded and accumulated > 1 and batch_idx % accumulated == 0:
            self._at_step = [replace(figure, metric=figure.metric.clone()) for figure in _running(trainer)]


def _running(trainer: Trainer) -> list[_Figure]:
    """What Lightning computes and logs at the epoch's end."""
    figures = []
    for result in epoch_results(trainer):
        if result.meta.on_epoch and not result.is_tensor and not result.has_reset:
            shown = {"prog_bar": result.meta.prog_bar, "logger": result.meta.logger}
            name, place = result.meta.forked_name(on_step=False), cast(str, result.meta.metric_attribute)
            figures.append(_Figure(name, place, cast(Metric, result.value), shown))
    return figures


def _means(trainer: Trainer) -> list[_Mean]:
    """Plain values of which Lightning logs the mean at the epoch's end."""
    means = []
    for result in epoch_results(trainer):
        if result.meta.on_epoch and result.is_tensor and result.meta.is_mean_reduction and not result.has_reset:
            shown = {"prog_bar": result.meta.prog_bar, "logger": result.meta.logger}
            means.append(_Mean(result.meta.forked_name(on_step=False), result, shown))
    return means


def _restore(metric: Metric, states: dict[str, Any]) -> None:
    """Put totals in the place of a metric's states."""
    for name, value in states.items():
        now = getattr(metric, name)
        setattr(metric, name, value.to(now) if isinstance(now, Tensor) else [part.to(metric.device) for part in value])
    mark_updated(metric)


def _pending(trainer: Trainer, *, in_epoch: bool) -> list[dict[str, Any]]:
    """The row that Lightning logs after the hook that it is in, which a kill before that would lose.

    Args:
        trainer: The trainer.
        in_epoch: Whether the epoch goes on when the run is continued.
    """
    loop = trainer.fit_loop
    epochs, batches = cast(Any, loop.epoch_progress.current), cast(Any, loop.epoch_loop.batch_progress.current)
    step = logger_step(trainer)
    if not trainer.training:
        return []
    if epochs.processed > epochs.completed:
        if in_epoch:  # it was cut short by max_steps
            return []
        step -= 1
    elif batches.processed == batches.completed or is_accumulating(trainer) or not is_logged(trainer):
        return []
    figures = convert_tensors_to_scalars(logged_values(trainer))
    return [{"epoch": trainer.current_epoch, **figures, "step": step}] if figures else []
