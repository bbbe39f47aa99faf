"""Polynomial decay of the learning rate, as segmentation models are trained."""

import math
from dataclasses import dataclass

from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class Poly:
    """Polynomial decay in steps, as MMSegmentation trains: peak · (1 - step / total) ^ power.

    Args:
        power: Exponent of the decay; 1 is linear.
        warmup_steps: Steps at the start in which the rate is multiplied by a factor that rises linearly to 1.
        warmup_ratio: The factor at the first step.

    Raises:
        UserError: If a value is out of range.
    """

    power: float = 1.0
    warmup_steps: int = 0
    warmup_ratio: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise UserError(f"model.schedule.poly.power is {self.power}; it must be above 0.")
        if self.warmup_steps < 0:
            raise UserError(f"model.schedule.poly.warmup_steps is {self.warmup_steps}; it must be 0 or more.")
        if not 0 < self.warmup_ratio <= 1:
            raise UserError(
                f"model.schedule.poly.warmup_ratio is {self.warmup_ratio}; it must be above 0 and at most 1."
            )

    def rate(self, step: int, total: int, peak: float, last: float) -> float:
        """Return the learning rate of a step.

        Args:
            step: The step, counted from 0.
            total: Steps of the run.
            peak: The learning rate that decays.
            last: The learning rate at the end.
        """
        left = max(1 - step / total, 0.0) if total else 0.0
        rate: float = last + (peak - last) * left**self.power
        if step >= self.warmup_steps:
            return rate
        return rate * (1 - (1 - step / self.warmup_steps) * (1 - self.warmup_ratio))
