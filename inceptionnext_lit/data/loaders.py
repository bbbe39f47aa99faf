"""Data loaders, and the processes in which they work."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from inceptionnext_lit.allocator import keep_memory


def build_loader(
    dataset: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    sampler: Sampler[Any] | None,
    *,
    batch_size: int,
    num_workers: int,
) -> DataLoader[Any]:
    """A loader whose processes, each of one thread, live as long as it does and copy nothing into pageable memory.

    Args:
        dataset: The images.
        collate: From a list of items to a batch.
        sampler: The order; None for that of the data set.
        batch_size: Images per batch.
        num_workers: Loader processes; 0 loads in this process.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        worker_init_fn=_begin_worker,
    )


def _begin_worker(number: int) -> None:
    """Let freed memory stay: images come and go, and every new page takes time."""
    keep_memory()
