"""Image files as items, and items as batches."""

from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from inceptionnext_lit.data.folder import Sample
from inceptionnext_lit.data.loading import load_image
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


class UnlabelledImages(Dataset[tuple[Tensor, str]]):
    """Images with their paths.

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

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """The image as a tensor (3, S, S), and its path."""
        return self.transform(load_image(self.paths[index])), self.paths[index]


def collate_labelled(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch for training and evaluation: float32 images (N, 3, S, S) and int64 labels (N,)."""
    images, labels = zip(*items, strict=True)
    return default_collate(list(images)), torch.tensor(labels, dtype=torch.int64)


def collate_unlabelled(items: list[tuple[Tensor, str]]) -> tuple[Tensor, list[str]]:
    """A batch for prediction: float32 images (N, 3, S, S) and the N paths."""
    images, paths = zip(*items, strict=True)
    return default_collate(list(images)), list(paths)
