"""Image files as items, and items as batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from inceptionnext_lit.data.decode.bad_images import BadImages
from inceptionnext_lit.data.decode.image import failure_reason
from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.samplers import Draw
from inceptionnext_lit.data.sources.sample_table import Sample, Samples, labels_of
from inceptionnext_lit.data.sources.texts import Texts
from inceptionnext_lit.data.transforms.erasing import Erasure, draw_erasure
from inceptionnext_lit.data.transforms.pipeline import Transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.seeding import seed_generators


class Item(NamedTuple):
    """A labelled image.

    Attributes:
        pixels: Shape (C, S, S), uint8 or float32 in [0, 1].
        label: Its class index; of a multi-label data set, a vector (K,) with 1 where it has the label; of an image that
            does not count, ``NOT_COUNTED`` in the label's place.
        weight: Its weight, where images are weighted.
        erasure: What is to be erased of it, if anything is.
    """

    pixels: Tensor
    label: int | Tensor
    weight: float | None = None
    erasure: Erasure | None = None


class LabelledImages(Dataset[Item]):
    """Images with their labels.

    Args:
        samples: The images.
        transform: From an image file to its pixels.
        erasing: Probability that a rectangle of an image is erased.
        num_labels: Labels K of a multi-label data set; None where an image has one.
        weights: Weight of each image, (N,); None where all count the same.
        seed: The run's seed, where the transform draws at random; what it draws for an image is then a function of
            seed, epoch, index and repeat alone.
        skip: What notes an image that cannot be read, in whose place the next one in the list is used then; None makes
            it an error.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        erasing: float = 0.0,
        num_labels: int | None = None,
        weights: NDArray[np.float64] | None = None,
        seed: int | None = None,
        skip: BadImages | None = None,
    ) -> None:
        self.samples = Samples.of(samples)
        self.transform = transform
        self.erasing = erasing
        self.num_labels = num_labels
        self.weights = weights
        self.seed = seed
        self.skip = skip

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Item:
        """One item."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[Item]:
        """Several items."""
        draws = [key if isinstance(key, Draw) else Draw(key) for key in keys]
        if self.seed is None or get_worker_info() is not None:  # a loader process has its generators to itself
            return [self._load(draw) for draw in draws]
        with isolate_rng(include_cuda=False):
            return [self._load(draw) for draw in draws]

    def _load(self, draw: Draw) -> Item:
        index, pixels = self._read(draw)
        label = self._label(self.samples[index], draw.counts)
        weight = None if self.weights is None else float(self.weights[index])
        erasure = draw_erasure(self.erasing, *pixels.shape[1:]) if self.erasing else None
        return Item(pixels, label, weight, erasure)

    def _read(self, draw: Draw) -> tuple[int, Tensor]:
        """The pixels of an image, and its index: the one that was asked for, or the next one that can be read."""
        for following in range(draw.image, draw.image + len(self.samples)):
            place = following % len(self.samples)
            path = self.samples.paths[place]
            if self.seed is not None:
                seed_generators(self.seed, "augmentation", draw.epoch, draw.image, draw.repeat)
            try:
                return place, self.transform.read(path)
            except UserError as error:
                if self.skip is None:
                    raise
                self.skip.note(path, error)
        raise UserError("None of the training images can be read. Look at the folder with the subcommand doctor.")

    def _label(self, sample: Sample, counts: bool) -> int | Tensor:
        if self.num_labels is None:
            return cast(int, sample.label) if counts else NOT_COUNTED
        if not counts:
            return torch.full((self.num_labels,), float(NOT_COUNTED))
        vector = torch.zeros(self.num_labels)
        vector[list(labels_of(sample))] = 1.0
        return vector


class UnlabelledBatch(NamedTuple):
    """A batch for prediction, of N images that could be read and of those that could not.

    Attributes:
        images: float32, shape (N, C, S, S); shape (0,) where none could be read. From the loader they are
            :class:`RawImages`.
        paths: The N files.
        unreadable: Path of each other file, and the reason.
    """

    images: Tensor | RawImages
    paths: list[str]
    unreadable: list[tuple[str, str]]


class UnlabelledImages(Dataset[tuple[Tensor | str, str]]):
    """Images with their paths; one that cannot be read is no error.

    Args:
        paths: Path of each image.
        transform: From an image file to its pixels.
    """

    def __init__(self, paths: Sequence[str], transform: Transform) -> None:
        self.transform = transform
        self.keep(paths)

    def keep(self, paths: Sequence[str]) -> None:
        """Let the data set be these images."""
        self.paths = Texts.of(paths)  # which loader processes share

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor | str, str]:
        """The image's pixels (C, S, S), or the reason why it cannot be read; and its path."""
        path = self.paths[index]
        try:
            return self.transform.read(path), path
        except Exception as error:  # also of a picture that cannot be resized, such as one of 1×60000 pixels
            return failure_reason(error), path


def collate_labelled(items: list[Item]) -> tuple[RawImages | Tensor, ...]:
    """A batch for training and evaluation.

    Returns:
        Images; labels, int64 (N,), or float32 (N, K) if multi-label; and float32 weights (N,) where the images have
        some.
    """
    pixels, labels, weights, erasures = zip(*items, strict=True)
    is_index = isinstance(labels[0], int)
    stacked = torch.tensor(labels, dtype=torch.int64) if is_index else default_collate(list(labels))
    batch = RawImages(stack_pixels(pixels), erasures if any(erasures) else ()), stacked
    return batch if weights[0] is None else (*batch, torch.tensor(weights, dtype=torch.float32))


def collate_unlabelled(items: list[tuple[Tensor | str, str]]) -> UnlabelledBatch:
    """A batch for prediction."""
    images = [image for image, _ in items if isinstance(image, Tensor)]
    return UnlabelledBatch(
        RawImages(stack_pixels(images)) if images else torch.empty(0),
        [path for image, path in items if isinstance(image, Tensor)],
        [(path, image) for image, path in items if isinstance(image, str)],
    )


def finish_batch(batch: Any, to_input: ToInput, precision: Precision | None, *, with_erasing: bool = True) -> Any:
    """A batch of a loader with a model's input in the place of its images, on the device where it is.

    Args:
        batch: What a collate function here gave; any other batch stays as it is.
        to_input: Normalises.
        precision: The trainer's precision, which Lightning applies while there are only pixels; None for float32.
        with_erasing: Whether what is to be erased is erased here.
    """
    images, *rest = batch
    if not isinstance(images, RawImages):
        return batch
    finished: Any = images.finished(to_input, with_erasing=with_erasing)
    if precision is not None:
        finished = precision.convert_input(finished)
    return batch._replace(images=finished) if isinstance(batch, UnlabelledBatch) else (finished, *rest)
