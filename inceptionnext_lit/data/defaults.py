"""Defaults derived from the data set and the machine."""

from inceptionnext_lit.machine import usable_cores

_MAX_WORKERS = 8


def default_batch_size(images: int) -> int:
    """Return a batch size of 8 to 64 that gives about forty steps per epoch.

    A small data set benefits more from steps than from the speed of a large batch.

    Args:
        images: Number of training images.
    """
    size = 8
    while size < 64 and images >= 40 * 2 * size:
        size *= 2
    return min(size, images)


def default_workers() -> int:
    """Return the default number of loader processes: the cores available to this process, at most 8."""
    return min(usable_cores(), _MAX_WORKERS)
