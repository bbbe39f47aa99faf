"""Time spent on training itself."""

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Timekeeper(Protocol):
    """A callback that times training."""

    def leave_out(self, seconds: float) -> None:
        """Leave out time that was spent on something else since the last batch."""


class TrainingClock:
    """Count training images and the seconds spent on them, with data loading and without validation."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Restart the count at zero."""
        self.images = 0
        self.seconds = 0.0
        self._since = time.monotonic()

    def skip(self) -> None:
        """Skip the time since the last batch."""
        self._since = time.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Leave out a part of the time since the last batch."""
        self._since += seconds

    def tick(self, images: int) -> None:
        """Record a finished batch."""
        now = time.monotonic()
        self.images += images
        self.seconds += now - self._since
        self._since = now

    @property
    def images_per_s(self) -> float:
        """Images per second; 0 before the first batch."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


def format_seconds(seconds: float) -> str:
    """Format seconds as ``m:ss``, or as ``h:mm:ss`` from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
