"""Image files as items, and items as batches."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from inceptionnext_lit.data.folder import Sample
from inceptionnext_lit.data.loading import failure_reason, load_image
from inceptionnext_lit.data.samplers import Draw
from inceptionnext_lit.data.transforms import Transform
from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.seeding import seed_generators


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images with their class indices.

    Args:
        samples: Path and class index of each image.
        transform: From an RGB image to a tensor (3, S, S).
        seed: The run's seed, where the transform draws at random; what it draws for an image is then a function of
            seed, epoch, index and repeat alone.
    """

    def __init__(self, samples: Sequence[Sample], transform: Transform, seed: int | None = None) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, int]:
        """The image as a tensor (3, S, S), and its class index; of an image that does not count, ``NOT_COUNTED``."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[tuple[Tensor, int]]:
        """Several images, as :meth:`__getitem__` gives one."""
        draws = [key if isinstance(key, Draw) else Draw(key) for key in keys]
        if self.seed is None or get_worker_info() is not None:  # a loader process has its generators to itself
            return [self._load(draw) for draw in draws]
        with isolate_rng(include_cuda=False):
            return [self._load(draw) for draw in draws]

    def _load(self, draw: Draw) -> tuple[Tensor, int]:
        path, label = self.samples[draw.image]
        image = load_image(path)
        if self.seed is not None:
            seed_generators(self.seed, "augmentation", draw.epoch, draw.image, draw.repeat)
        return self.transform(image), label if draw.counts else NOT_COUNTED


class UnlabelledBatch(NamedTuple):
    """A batch for prediction, of N images that could be read and of those that could not.

    Attributes:
        images: float32, shape (N, 3, S, S); shape (0,) where none could be read.
        paths: The N files.
        unreadable: Path of each other file, and the reason.
    """

    images: Tensor
    paths: list[str]
    unreadable: list[tuple[str, str]]


class UnlabelledImages(Dataset[tuple[Tensor | str, str]]):
    """Images with their paths; one that cannot be read is no error.

    Args:
        paths: Path of each image.
        transform: From an RGB image to a tensor (3, S, S).
    """

    def __init__(self, paths: Sequence[str], transform: Transform) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor | str, str]:
        """The image as a tensor (3, S, S), or the reason why it cannot be read; and its path."""
        path = self.paths[index]
        try:
            return self.transform(load_image(path)), path
        except Exception as error:  # also of a picture that cannot be resized, such as one of 1×60000 pixels
            return failure_reason(error), path


def collate_labelled(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch for training and evaluation: float32 images (N, 3, S, S) and int64 labels (N,)."""
    images, labels = zip(*items, strict=True)
    return default_collate(list(images)), torch.tensor(labels, dtype=torch.int64)


def collate_unlabelled(items: list[tuple[Tensor | str, str]]) -> UnlabelledBatch:
    """A batch for prediction."""
    images = [image for image, _ in items if isinstance(image, Tensor)]
    return UnlabelledBatch(
        default_collate(images) if images else torch.empty(0),
        [path for image, path in items if isinstance(image, Tensor)],
        [(path, image) for image, path in items if isinstance(image, str)],
    )
