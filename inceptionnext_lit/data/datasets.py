"""Image files as items, and items as batches."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from inceptionnext_lit.data.folder import Sample
from inceptionnext_lit.data.loading import load_image
from inceptionnext_lit.data.transforms import Transform


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images with their class indices.

    Args:
        samples: Path and class index of each image.
        transform: From an RGB image to a tensor (3, S, S).
    """

    def __init__(self, samples: Sequence[Sample], transform: Transform) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image as a tensor (3, S, S), and its class index."""
        path, label = self.samples[index]
        return self.transform(load_image(path)), label


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
