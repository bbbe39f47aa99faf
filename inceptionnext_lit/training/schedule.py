"""The learning-rate schedule of the family's recipes, linear warm-up, cosine and cool-down, or another of torch's."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.class_paths import import_subclass
from inceptionnext_lit.wording import did_you_mean


@dataclass(frozen=True)
class Probe:
    """A linear probe at the start of a run.

    Attributes:
        steps: Its optimiser steps.
        lr: Rate of the last linear layer in them; that of everything else is 0.
    """

    steps: int
    lr: float


class StepSchedule(LambdaLR):
    """A factor of each parameter group's own peak; groups that are added later keep the rate that they are given."""

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group."""
        added = self.optimizer.param_groups[len(self.base_lrs) :]
        return [*super().get_lr(), *(group["lr"] for group in added)]


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run (paper, section 4.1, as DeiT trains).

    The cosine ends where the cool-down begins. A run that is too short for warm-up and cool-down has both shortened, to
    half of its steps in all, and its rate changes with each step; a warning says so. Where the peak of a parameter
    group is below ``warmup_lr`` or ``min_lr``, it is used in their place, with a warning: the rate neither falls in the
    warm-up nor rises after it.

    Args:
        unit: Whether the rate changes with each optimiser ``step`` or with each ``epoch``, as in timm's scripts.
        warmup_epochs: Epochs of linear increase from ``warmup_lr`` to the peak; fractions are fine.
        warmup_overlays: Whether the cosine begins with the run, and the warm-up takes the place of its first epochs, as
            in timm; else it begins after the warm-up.
        warmup_reaches_peak: Whether the last step of the warm-up has the peak already, as in ConvNeXt's code; else the
            step after it is the first to have it.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate where the cosine ends.
        cooldown_epochs: Last epochs of the run that stay at ``min_lr``.
        lag_epochs: Epochs by which the rate lags behind the schedule; 1 in DeiT's code.
        name: Another scheduler by its path, such as ``torch.optim.lr_scheduler.ExponentialLR``, in the place of all of
            the above. It is imported when training starts.
        interval: Whether the named scheduler is stepped after each ``epoch`` or after each optimiser ``step``.
        kwargs: The named scheduler's own arguments; those of ``ReduceLROnPlateau`` also name the ``monitor``, such as
            ``val/loss``.

    Raises:
        UserError: If a value is negative or infinite, or there can be no such scheduler.
    """

    unit: Literal["step", "epoch"] = "step"
    warmup_epochs: float = 0.0
    warmup_overlays: bool = False
    warmup_reaches_peak: bool = False
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: float = 0.0
    lag_epochs: int = 0
    name: str | None = None
    interval: Literal["epoch", "step"] = "epoch"
    kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("warmup_epochs", "warmup_lr", "min_lr", "cooldown_epochs", "lag_epochs"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise UserError(f"model.schedule.{name} is {value}; it must be 0 or more.")
        if self.name is not None and "." not in self.name:
            near = get_close_matches(self.name, [name for name in dir(lr_scheduler) if "LR" in name], n=1, cutoff=0.0)
            raise UserError(
                f"model.schedule.name is {self.name!r}, which is no path of a class; did you mean "
                f"{lr_scheduler.__name__}.{near[0]}?"
            )
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
            directions: For each metric of an epoch, whether its ``min`` or its ``max`` is the best.

        Raises:
            UserError: If it is not logged, or ``mode`` takes its worst value for the best.
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
                f"{self.name} waits for {monitor} with mode {mode}, which takes the worst value for the best; give it "
                f"mode: {directions[monitor]}."
            )

    def attach(self, optimizer: Optimizer) -> dict[str, Any]:
        """Attach the named scheduler to an optimiser.

        Args:
            optimizer: Each of its groups gets an ``initial_lr``, the rate at the start.

        Returns:
            Lightning's description of a scheduler and of when it is to be stepped.

        Raises:
            UserError: If it cannot be imported, or does not take ``kwargs``.
        """
        kwargs = dict(self.kwargs or {})
        described: dict[str, Any] = {"interval": self.interval}
        kind: Callable[..., LRScheduler] = import_subclass(str(self.name), LRScheduler, "model.schedule.name")
        try:
            if self._is_plateau:
                described["monitor"] = kwargs["monitor"]
                if "monitor" not in inspect.signature(kind).parameters:  # Lightning's takes it, torch's does not
                    del kwargs["monitor"]
            described["scheduler"] = kind(optimizer, **kwargs)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"The scheduler {self.name!r} cannot be made with model.schedule.kwargs {kwargs}: {error}."
            ) from error
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return described

    def build(
        self, optimizer: Optimizer, total_steps: int, steps_per_epoch: float, probe: Probe | None = None
    ) -> StepSchedule:
        """Attach the schedule to an optimiser, where no other is named.

        Args:
            optimizer: Its groups' own ``lr`` is the peak.
            total_steps: Optimiser steps in the whole run.
            steps_per_epoch: Optimiser steps in one epoch.
            probe: A linear probe before the schedule, which has the steps that are left.

        Returns:
            A scheduler to be stepped after every optimiser step.
        """
        probing = 0 if probe is None else min(probe.steps, total_steps)
        phases = self._phases(total_steps - probing, steps_per_epoch)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        if phases.warmup:
            _say_what_is_above("warmup_lr", self.warmup_lr, peaks)
        if phases.cosine:
            _say_what_is_above("min_lr", self.min_lr, peaks)

        def factor(step: int, peak: float, probe_lr: float) -> float:
            if step < probing:
                return probe_lr / peak
            return phases.rate(step - probing, peak, min(self.warmup_lr, peak), min(self.min_lr, peak)) / peak

        factors: list[Callable[[int], float]] = [
            partial(factor, peak=group["lr"], probe_lr=probe.lr if probe is not None and group.get("is_head") else 0.0)
            for group in optimizer.param_groups
        ]
        return StepSchedule(optimizer, factors)

    def _phases(self, total: int, steps_per_epoch: float) -> "_Phases":
        """The schedule in the steps of a run."""
        warmup, cooldown = (round(epochs * steps_per_epoch) for epochs in (self.warmup_epochs, self.cooldown_epochs))
        unit = round(steps_per_epoch) if self.unit == "epoch" else 1
        lag = round(self.lag_epochs * steps_per_epoch)
        if warmup + cooldown >= max(total, 1):
            share = total / 2 / (warmup + cooldown)
            _say_what_is_short(total, steps_per_epoch, self, share)
            warmup, cooldown, unit, lag = int(share * warmup), int(share * cooldown), 1, 0
        begin = 0 if self.warmup_overlays else warmup
        to_peak = max(warmup - 1, 1) if self.warmup_reaches_peak else warmup
        return _Phases(unit, warmup, to_peak, begin, total - cooldown - begin, lag)


@dataclass(frozen=True)
class _Phases:
    """A schedule in steps; a rate stays for as many as ``unit``, and is that of ``lag`` steps before.

    Attributes:
        unit: Steps after which the rate changes.
        warmup: Steps of the warm-up, which overlay those of the cosine where it begins at 0.
        warmup_to_peak: Steps in which the warm-up rises to the peak.
        begin: The cosine's first step.
        cosine: Its steps.
        lag: Steps that the rate is behind.
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
def _say_what_is_short(total: int, steps_per_epoch: float, schedule: Schedule, share: float) -> None:
    """Warn that a run is too short for its warm-up and cool-down."""
    epochs, warmup, cooldown = total / steps_per_epoch, schedule.warmup_epochs, schedule.cooldown_epochs
    warnings.warn(
        f"A run of {epochs:.3g} epoch{'' if epochs == 1 else 's'} is too short for model.schedule.warmup_epochs "
        f"{warmup:g} and cooldown_epochs {cooldown:g}; they are shortened to {share * warmup:.3g} and "
        f"{share * cooldown:.3g}.",
        stacklevel=1,
    )


@rank_zero_only
def _say_what_is_above(name: str, value: float, peaks: list[float]) -> None:
    """Warn of a rate of the schedule that is above the peak of some parameter groups."""
    below = [peak for peak in peaks if peak < value]
    if not below:
        return
    which = "" if len(below) == len(peaks) else f" of {len(below)} of {len(peaks)} parameter groups"
    warnings.warn(
        f"model.schedule.{name} is {value:g}, above the peak rate{which} ({min(below):g}), which is used in its place; "
        f"lower model.schedule.{name} or raise model.lr.",
        stacklevel=1,
    )
