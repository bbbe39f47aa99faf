"""Settings that follow from the data set and the machine."""

from inceptionnext_lit.machine import usable_cores

_MAX_WORKERS = 8


def default_batch_size(images: int) -> int:
    """Images per batch for so many training images: about forty steps an epoch, from 8 to 64 images each.

    A small data set needs the steps more than the speed of a large batch.

    Args:
        images: Training images.
    """
    size = 8
    while size < 64 and images >= 40 * 2 * size:
        size *= 2
    return min(size, images)


def default_workers() -> int:
    """Processes that load images: the cores that this process may use, at most 8."""
    return min(usable_cores(), _MAX_WORKERS)
