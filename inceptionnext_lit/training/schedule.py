"""The learning-rate schedule of the family's recipes: linear warm-up, cosine, cool-down."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from inceptionnext_lit.errors import UserError


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
    """Learning rate over a run, stepped once per optimiser step (paper, section 4.1, as DeiT trains).

    Where the peak of a parameter group is below ``warmup_lr`` or ``min_lr``, the peak is used in their place, with a
    warning: the rate neither falls in the warm-up nor rises after it.

    Args:
        warmup_epochs: Epochs of linear increase from ``warmup_lr`` to the peak; fractions are fine.
        warmup_lr: Learning rate of the first step.
        min_lr: Learning rate where the cosine ends.
        cooldown_epochs: Last epochs of the run that stay at ``min_lr``.

    Raises:
        UserError: If a value is negative or infinite.
    """

    warmup_epochs: float = 0.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise UserError(f"model.schedule.{name} is {value}; it must be 0 or more.")

    def build(
        self, optimizer: Optimizer, total_steps: int, steps_per_epoch: float, probe: Probe | None = None
    ) -> StepSchedule:
        """Attach the schedule to an optimiser.

        Args:
            optimizer: Its groups' own ``lr`` is the peak.
            total_steps: Optimiser steps in the whole run.
            steps_per_epoch: Optimiser steps in one epoch.
            probe: A linear probe before the schedule, which has the steps that are left.

        Returns:
            A scheduler to be stepped after every optimiser step.
        """
        probing = 0 if probe is None else min(probe.steps, total_steps)
        total_steps -= probing
        cooldown = min(round(self.cooldown_epochs * steps_per_epoch), total_steps)
        warmup = min(round(self.warmup_epochs * steps_per_epoch), total_steps - cooldown)
        cosine = total_steps - cooldown - warmup
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        if warmup:
            _say_what_is_above("warmup_lr", self.warmup_lr, peaks)
        if cosine or cooldown:
            _say_what_is_above("min_lr", self.min_lr, peaks)

        def factor(step: int, peak: float, probe_lr: float) -> float:
            if step < probing:
                return probe_lr / peak
            step -= probing
            if step < warmup:
                first = min(self.warmup_lr, peak)
                rate = first + (peak - first) * step / warmup
            else:
                progress = min((step - warmup) / cosine, 1.0) if cosine else 1.0
                last = min(self.min_lr, peak)
                rate = last + (peak - last) * (1 + math.cos(math.pi * progress)) / 2
            return rate / peak

        factors: list[Callable[[int], float]] = [
            partial(factor, peak=group["lr"], probe_lr=probe.lr if probe is not None and group.get("is_head") else 0.0)
            for group in optimizer.param_groups
        ]
        return StepSchedule(optimizer, factors)


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
