"""Measure whether a run waits for the data loader or for the model, and suggest what to do about it."""

import time
from typing import Any

from inceptionnext_lit.machine import usable_cores

_NOTABLE_SHARE = 0.05  # share of the time spent waiting that is worth reporting


class WaitingClock:
    """Measure how long the training loop waits for batches, and how long everything else takes.

    Only the host's clock is read. A GPU's work is queued, but once the queue is full, after a few steps, the host waits
    for images as long as the GPU does.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.worked = 0.0
        self._since: float | None = None

    def ask(self) -> None:
        """Record that the next batch is requested."""
        now = time.monotonic()
        if self._since is not None:
            self.worked += now - self._since
        self._since = now

    def receive(self) -> None:
        """Record that the batch has arrived."""
        now = time.monotonic()
        if self._since is not None:
            self.waited += now - self._since
        self._since = now

    def leave_out(self, seconds: float) -> None:
        """Leave out time that neither the loader nor the model took since a batch arrived."""
        if self._since is not None:
            self._since += seconds

    def begin_epoch(self) -> None:
        """Record that an epoch's first batch is requested; the run's first is skipped, as workers start then."""
        self.pause()
        if self.worked:
            self.ask()

    def pause(self) -> None:
        """Skip the time until the next batch arrives, for example a validation."""
        self._since = None

    @property
    def share(self) -> float:
        """Fraction of the time spent waiting, in [0, 1]; 0 before the first measurement."""
        total = self.waited + self.worked
        return self.waited / total if total > 0 else 0.0


def verdict(share: float, num_workers: int, augmentation: Any = None) -> str:
    """Describe in one line what limits the speed of a run.

    Args:
        share: Fraction of the training time spent waiting for images.
        num_workers: Loader processes; 0 if images are loaded in the training process.
        augmentation: The data module's augmentation, if it has one.
    """
    percent = f"{share:.0%}"
    if share < _NOTABLE_SHARE:
        return f"keeps up (the model waits {percent} of the time)"
    if num_workers == 0:
        return (
            f"the model waits {percent} of the time for images, which are loaded in the training process; "
            "set data.num_workers"
        )
    cores = usable_cores()
    more = f"more data.num_workers (now {num_workers} of {cores} cores), " if num_workers < cores else "more cores, "
    can_be_lighter = getattr(augmentation, "rand_augment_magnitude", None) is not None
    others = "smaller files, or data.augmentation light" if can_be_lighter else "or smaller files"
    return f"the model waits {percent} of the time for images; {more}{others}"
