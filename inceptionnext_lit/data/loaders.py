"""Data loaders and their processes."""

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
    """Build a loader with persistent, single-threaded processes and pinned memory if there is a GPU.

    Args:
        dataset: The images.
        collate: Turns a list of items into a batch.
        sampler: The order; None for the data set's order.
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
    """Keep freed memory: images are short-lived, and every new page takes time."""
    keep_memory()
