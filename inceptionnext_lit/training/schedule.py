"""Learning-rate schedules: linear warmup, cosine and cooldown as in the recipes, or any of torch's schedulers."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.class_paths import import_subclass
from inceptionnext_lit.training.poly import Poly
from inceptionnext_lit.wording import count, did_you_mean


@dataclass(frozen=True)
class Probe:
    """A linear probe at the start of a run.

    Attributes:
        steps: Its optimizer steps.
        lr: Learning rate of the last linear layer during the probe; all others are 0.
    """

    steps: int
    lr: float


class StepSchedule(LambdaLR):
    """Scale each parameter group's peak learning rate by a factor; groups added later keep their own rate."""

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group."""
        added = self.optimizer.param_groups[len(self.base_lrs) :]
        return [*super().get_lr(), *(group["lr"] for group in added)]


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run (paper, section 4.1, as DeiT trains).

    The cosine ends where the cooldown begins. If a run is too short, warmup and cooldown are shortened to half of its
    steps in total, and the learning rate changes with each step; a warning says so. If the peak of a parameter group is
    below ``warmup_lr`` or ``min_lr``, the peak is used instead, with a warning, so that the learning rate never falls
    during the warmup or rises after it.

    Args:
        unit: Whether the learning rate changes with each optimizer ``step`` or each ``epoch``, as in timm's scripts.
        warmup_epochs: Epochs of linear increase from ``warmup_lr`` to the peak; may be fractional.
        warmup_overlays: Whether the cosine begins with the run and the warmup replaces its first epochs, as in timm;
            otherwise the cosine begins after the warmup.
        warmup_reaches_peak: Whether the last warmup step reaches the peak, as in ConvNeXt's code; otherwise the step
            after it does.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate at the end of the cosine.
        cooldown_epochs: Last epochs of the run, at ``min_lr``.
        lag_epochs: Epochs by which the learning rate lags behind the schedule; 1 in DeiT's code.
        poly: Polynomial decay to ``min_lr`` in steps, as in segmentation, instead of warmup, cosine and cooldown.
        name: Path of another scheduler, such as ``torch.optim.lr_scheduler.ExponentialLR``, to use instead of all of
            the above. It is imported when training starts.
        interval: Whether the named scheduler is stepped after each ``epoch`` or after each optimizer ``step``.
        kwargs: Arguments of the named scheduler; for ``ReduceLROnPlateau`` also the ``monitor``, such as ``val/loss``.

    Raises:
        UserError: If a value is negative or infinite, or the scheduler's name is not valid.
    """

    unit: Literal["step", "epoch"] = "step"
    warmup_epochs: float = 0.0
    warmup_overlays: bool = False
    warmup_reaches_peak: bool = False
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: float = 0.0
    lag_epochs: int = 0
    poly: Poly | None = None
    name: str | None = None
    interval: Literal["epoch", "step"] = "epoch"
    kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_choices(self, "model.schedule")
        for name in ("warmup_epochs", "warmup_lr", "min_lr", "cooldown_epochs", "lag_epochs"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UserError(f"model.schedule.{name} is {value}; it must be 0 or more.")
        if self.name is not None and "." not in self.name:
            near = get_close_matches(self.name, [name for name in dir(lr_scheduler) if "LR" in name], n=1, cutoff=0.0)
            raise UserError(
                f"model.schedule.name is {self.name!r}, which is not the path of a class; did you mean "
                f"{lr_scheduler.__name__}.{near[0]}?"
            )
        if self.poly is not None and (self.name is not None or self.warmup_epochs or self.cooldown_epochs):
            key = "name" if self.name is not None else "warmup_epochs" if self.warmup_epochs else "cooldown_epochs"
            raise UserError(f"model.schedule.poly is a schedule of its own; leave out model.schedule.{key}.")
        if self.name is None and (self.kwargs or self.interval != "epoch"):
            key = "kwargs" if self.kwargs else "interval"
            raise UserError(f"model.schedule.{key} is for another scheduler; give model.schedule.name too.")
        if self._is_plateau and self.interval == "step":
            raise UserError(f"{self.name} waits for an epoch's metric; leave out model.schedule.interval.")

    @property
    def _is_plateau(self) -> bool:
        return self.name is not None and self.name.endswith(".ReduceLROnPlateau")

    def check_monitor(self, directions: Mapping[str, str]) -> None:
        """Check the metric that ``ReduceLROnPlateau`` monitors.

        Args:
            directions: ``min`` or ``max`` for each epoch metric, whichever is best.

        Raises:
            UserError: If the metric is not logged, or ``mode`` contradicts its direction.
        """
        if not self._is_plateau:
            return
        kwargs = self.kwargs or {}
        monitor, mode = str(kwargs.get("monitor")), kwargs.get("mode", "min")
        if monitor not in directions:
            question = did_you_mean(monitor, directions, most=2, cutoff=0.0)
            raise UserError(f"{self.name} waits for the monitor {monitor!r}, which is not logged; {question}")
        if mode != directions[monitor]:
            raise UserError(
                f"{self.name} waits for {monitor} with mode {mode}, which selects the worst value; set "
                f"mode: {directions[monitor]}."
            )

    def attach(self, optimizer: Optimizer) -> dict[str, Any]:
        """Attach the named scheduler to an optimizer.

        Args:
            optimizer: The optimizer; each of its groups gets an ``initial_lr``, its learning rate at the start.

        Returns:
            Lightning's description of a scheduler and of when to step it.

        Raises:
            UserError: If the scheduler cannot be imported, or does not take ``kwargs``.
        """
        kwargs = dict(self.kwargs or {})
        described: dict[str, Any] = {"interval": self.interval}
        kind: Callable[..., LRScheduler] = import_subclass(str(self.name), LRScheduler, "model.schedule.name")
        try:
            if self._is_plateau:
                described["monitor"] = kwargs["monitor"]
                if "monitor" not in inspect.signature(kind).parameters:  # an argument of Lightning's, not of torch's
                    del kwargs["monitor"]
            described["scheduler"] = kind(optimizer, **kwargs)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"The scheduler {self.name!r} cannot be created with model.schedule.kwargs {kwargs}: {error}."
            ) from error
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return described

    def build(
        self, optimizer: Optimizer, total_steps: int, steps_per_epoch: float, probe: Probe | None = None
    ) -> StepSchedule:
        """Attach the schedule to an optimizer, if no other scheduler is named.

        Args:
            optimizer: The optimizer; the ``lr`` of each group is its peak.
            total_steps: Optimizer steps of the whole run.
            steps_per_epoch: Optimizer steps of one epoch.
            probe: A linear probe before the schedule, which gets the remaining steps.

        Returns:
            A scheduler to step after every optimizer step.
        """
        probing = 0 if probe is None else min(probe.steps, total_steps)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        rate = self._rate(total_steps - probing, steps_per_epoch, peaks)

        def factor(step: int, peak: float, probe_lr: float) -> float:
            return (probe_lr if step < probing else rate(step - probing, peak)) / peak

        factors: list[Callable[[int], float]] = [
            partial(factor, peak=group["lr"], probe_lr=probe.lr if probe is not None and group.get("is_head") else 0.0)
            for group in optimizer.param_groups
        ]
        return StepSchedule(optimizer, factors)

    def _rate(self, total: int, steps_per_epoch: float, peaks: list[float]) -> Callable[[int, float], float]:
        """Return the learning rate as a function of the step and the peak, with warnings about the peaks."""
        if (poly := self.poly) is not None:
            _warn_above_peak("min_lr", self.min_lr, peaks)
            if poly.warmup_steps >= max(total, 1):
                _warn_too_short_for_poly(total, poly)
                poly = replace(poly, warmup_steps=total // 2)
            return lambda step, peak: poly.rate(step, total, peak, min(self.min_lr, peak))
        phases = self._phases(total, steps_per_epoch)
        if phases.warmup:
            _warn_above_peak("warmup_lr", self.warmup_lr, peaks)
        if phases.cosine:
            _warn_above_peak("min_lr", self.min_lr, peaks)
        return lambda step, peak: phases.rate(step, peak, min(self.warmup_lr, peak), min(self.min_lr, peak))

    def _phases(self, total: int, steps_per_epoch: float) -> "_Phases":
        """Convert the schedule to the steps of a run."""
        warmup, cooldown = (round(epochs * steps_per_epoch) for epochs in (self.warmup_epochs, self.cooldown_epochs))
        unit = round(steps_per_epoch) if self.unit == "epoch" else 1
        lag = round(self.lag_epochs * steps_per_epoch)
        if warmup + cooldown >= max(total, 1):
            share = total / 2 / (warmup + cooldown)
            _warn_too_short(total, steps_per_epoch, self, share)
            warmup, cooldown, unit, lag = int(share * warmup), int(share * cooldown), 1, 0
        begin = 0 if self.warmup_overlays else warmup
        to_peak = max(warmup - 1, 1) if self.warmup_reaches_peak else warmup
        return _Phases(unit, warmup, to_peak, begin, total - cooldown - begin, lag)


@dataclass(frozen=True)
class _Phases:
    """A schedule in steps.

    Attributes:
        unit: Steps after which the learning rate changes.
        warmup: Steps of the warmup, which replace the first ones of the cosine if that begins at 0.
        warmup_to_peak: Steps in which the warmup rises to the peak.
        begin: First step of the cosine.
        cosine: Steps of the cosine.
        lag: Steps by which the learning rate lags behind.
    """

    unit: int
    warmup: float
    warmup_to_peak: float
    begin: float
    cosine: float
    lag: int

    def rate(self, step: int, peak: float, first: float, last: float) -> float:
        step = max(step - step % self.unit - self.lag, 0)
        if step < self.warmup:
            return first + (peak - first) * step / self.warmup_to_peak
        progress = min((step - self.begin) / self.cosine, 1.0) if self.cosine else 1.0
        return last + (peak - last) * (1 + math.cos(math.pi * progress)) / 2


@rank_zero_only
def _warn_too_short(total: int, steps_per_epoch: float, schedule: Schedule, share: float) -> None:
    """Warn that a run is too short for its warmup and cooldown."""
    epochs, warmup, cooldown = total / steps_per_epoch, schedule.warmup_epochs, schedule.cooldown_epochs
    warnings.warn(
        f"A run of {epochs:.3g} epoch{'' if epochs == 1 else 's'} is too short for model.schedule.warmup_epochs "
        f"{warmup:g} and cooldown_epochs {cooldown:g}; they are shortened to {share * warmup:.3g} and "
        f"{share * cooldown:.3g}.",
        stacklevel=1,
    )


@rank_zero_only
def _warn_too_short_for_poly(total: int, poly: Poly) -> None:
    """Warn that a run is too short for the warmup of its polynomial decay."""
    warnings.warn(
        f"A run of {count(total, 'step')} is too short for model.schedule.poly.warmup_steps {poly.warmup_steps}; they "
        f"are shortened to {total // 2}.",
        stacklevel=1,
    )


@rank_zero_only
def _warn_above_peak(name: str, value: float, peaks: list[float]) -> None:
    """Warn if a learning rate of the schedule is above the peak of some parameter groups."""
    below = [peak for peak in peaks if peak < value]
    if not below:
        return
    which = "" if len(below) == len(peaks) else f" of {len(below)} of {len(peaks)} parameter groups"
    warnings.warn(
        f"model.schedule.{name} is {value:g}, above the peak rate{which} ({min(below):g}), which is used instead; "
        f"lower model.schedule.{name} or raise model.lr.",
        stacklevel=1,
    )
