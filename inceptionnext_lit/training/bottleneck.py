"""Whether the loader or the model is what a run waits for, and what to do about it."""

import time
from typing import Any

from inceptionnext_lit.machine import usable_cores

_FROM = 0.05  # share of the time from which on waiting is worth a remark


class WaitingClock:
    """Adds up how long the training loop waits for batches, and how long everything else takes.

    It reads the host's clock alone. On a GPU, whose work the host only lines up, the host waits for images as long as
    the GPU does once its queue is full, which is after a few steps.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.worked = 0.0
        self._since: float | None = None

    def ask(self) -> None:
        """The next batch is asked for."""
        now = time.monotonic()
        if self._since is not None:
            self.worked += now - self._since
        self._since = now

    def receive(self) -> None:
        """It is there."""
        now = time.monotonic()
        if self._since is not None:
            self.waited += now - self._since
        self._since = now

    def begin_epoch(self) -> None:
        """An epoch's first batch is asked for; the run's first is left out, before which loader processes start."""
        self.pause()
        if self.worked:
            self.ask()

    def pause(self) -> None:
        """Leave out what comes now, such as a validation, until the next batch is there."""
        self._since = None

    @property
    def share(self) -> float:
        """How much of the time went into waiting, in [0, 1]; 0 before there was any."""
        total = self.waited + self.worked
        return self.waited / total if total > 0 else 0.0


def verdict(share: float, num_workers: int, augmentation: Any = None) -> str:
    """One line on what holds the run up.

    Args:
        share: Of the training time that is spent waiting for images.
        num_workers: Loader processes; 0 where images are loaded in the training process.
        augmentation: The data module's, if it has one.
    """
    percent = f"{share:.0%}"
    if share < _FROM:
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
