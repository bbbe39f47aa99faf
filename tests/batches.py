"""Batches as a task receives them, without a trainer."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels


def finished(data: ImageFolderDataModule, loader: Iterable[Any]) -> list[Any]:
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def as_input(data: ImageFolderDataModule, pixels: Tensor) -> Tensor:
    """One image's pixels, normalized."""
    image: Tensor = ToInput(data.preprocessing)(stack_pixels([pixels]))[0]
    return image
