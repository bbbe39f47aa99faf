"""Time that goes into training itself."""

import time


class TrainingClock:
    """Counts images and the seconds that training on them took, loading included and validation not."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin counting at zero, now."""
        self.images = 0
        self.seconds = 0.0
        self._since = time.monotonic()

    def skip(self) -> None:
        """Leave out the time since the last batch."""
        self._since = time.monotonic()

    def tick(self, images: int) -> None:
        """A batch is done."""
        now = time.monotonic()
        self.images += images
        self.seconds += now - self._since
        self._since = now

    @property
    def images_per_s(self) -> float:
        """Images per second; 0 before the first batch."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


def format_seconds(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
