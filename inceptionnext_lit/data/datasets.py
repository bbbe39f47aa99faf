"""Data sets of image files, and the collation of their items into batches."""

from collections.abc import Callable, Sequence
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
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Sample, Samples, labels_of
from inceptionnext_lit.data.transforms.erasing import Erasure, draw_erasure
from inceptionnext_lit.data.transforms.pipeline import Transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.seeding import seed_generators


class Item(NamedTuple):
    """A labeled image.

    Attributes:
        pixels: Shape (C, S, S), uint8 or float32 in [0, 1].
        label: The class index; in a multi-label data set, a multi-hot vector (K,); for padding, ``NOT_COUNTED``.
        weight: The image's weight, if images are weighted.
        erasure: The rectangle to erase, if any.
    """

    pixels: Tensor
    label: int | Tensor
    weight: float | None = None
    erasure: Erasure | None = None


class LabeledImages(Dataset[Item]):
    """Images with their labels.

    Args:
        samples: The images.
        transform: Reads an image file and returns its pixels.
        erasing: Probability that a rectangle of an image is erased.
        num_labels: Number of labels K of a multi-label data set; None for one label per image.
        weights: Weight of each image, (N,); None if all are equal.
        seed: The run's seed, for a random transform; its draws for an image then depend only on seed, epoch, index
            and repeat.
        skip: Records images that cannot be read; the next image in the list is then used instead. None makes them an
            error.

    Attributes:
        by_epoch: Returns the transform of an epoch, if it is not the same in all.
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
        self.by_epoch: Callable[[int], Transform] | None = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Item:
        """Return one item."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Draw]) -> list[Item]:
        """Return several items."""
        draws = [key if isinstance(key, Draw) else Draw(key) for key in keys]
        if self.seed is None or get_worker_info() is not None:  # a loader process has its own generators
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
        """Return the index and pixels of the requested image, or of the next one that can be read."""
        transform = self.transform if self.by_epoch is None else self.by_epoch(draw.epoch)
        for following in range(draw.image, draw.image + len(self.samples)):
            place = following % len(self.samples)
            path = self.samples.paths[place]
            if self.seed is not None:
                seed_generators(self.seed, "augmentation", draw.epoch, draw.image, draw.repeat)
            try:
                return place, transform.read(path)
            except UserError as error:
                if self.skip is None:
                    raise
                self.skip.note(path, error)
        raise UserError("None of the training images can be read. Check the folder with the subcommand doctor.")

    def _label(self, sample: Sample, counts: bool) -> int | Tensor:
        if self.num_labels is None:
            return cast(int, sample.label) if counts else NOT_COUNTED
        if not counts:
            return torch.full((self.num_labels,), float(NOT_COUNTED))
        vector = torch.zeros(self.num_labels)
        vector[list(labels_of(sample))] = 1.0
        return vector


class UnlabeledBatch(NamedTuple):
    """A batch for prediction: N images that could be read, and the files that could not.

    Attributes:
        images: float32, shape (N, C, S, S); shape (0,) if none could be read. From the loader, :class:`RawImages`.
        paths: The N files.
        unreadable: The path of each other file, and the reason.
    """

    images: Tensor | RawImages
    paths: list[str]
    unreadable: list[tuple[str, str]]


class UnlabeledImages(Dataset[tuple[Tensor | str, str]]):
    """Images with their paths; an image that cannot be read is not an error.

    Args:
        paths: Path of each image.
        transform: Reads an image file and returns its pixels.
    """

    def __init__(self, paths: Sequence[str], transform: Transform) -> None:
        self.transform = transform
        self.keep(paths)

    def keep(self, paths: Sequence[str]) -> None:
        """Replace the images of the data set."""
        self.paths = PackedStrings.of(paths)  # shared by loader processes

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor | str, str]:
        """Return the image's pixels (C, S, S), or the reason why it cannot be read, and its path."""
        path = self.paths[index]
        try:
            return self.transform.read(path), path
        except Exception as error:  # includes images that cannot be resized, such as 1×60000 pixels
            return failure_reason(error), path


def collate_labeled(items: list[Item]) -> tuple[RawImages | Tensor, ...]:
    """Collate a batch for training and evaluation.

    Returns:
        Images; labels, int64 (N,), or float32 (N, K) if multi-label; and weights, float32 (N,), if there are any.
    """
    pixels, labels, weights, erasures = zip(*items, strict=True)
    is_index = isinstance(labels[0], int)
    stacked = torch.tensor(labels, dtype=torch.int64) if is_index else default_collate(list(labels))
    batch = RawImages(stack_pixels(pixels), erasures if any(erasures) else ()), stacked
    return batch if weights[0] is None else (*batch, torch.tensor(weights, dtype=torch.float32))


def collate_unlabeled(items: list[tuple[Tensor | str, str]]) -> UnlabeledBatch:
    """Collate a batch for prediction."""
    images = [image for image, _ in items if isinstance(image, Tensor)]
    return UnlabeledBatch(
        RawImages(stack_pixels(images)) if images else torch.empty(0),
        [path for image, path in items if isinstance(image, Tensor)],
        [(path, image) for image, path in items if isinstance(image, str)],
    )


def finish_batch(batch: Any, to_input: ToInput, precision: Precision | None, *, with_erasing: bool = True) -> Any:
    """Replace the raw images of a batch with the model's input, on the batch's device.

    Args:
        batch: A batch from a collate function of this module; any other batch is returned unchanged.
        to_input: Normalizes the pixels.
        precision: The trainer's precision, which Lightning has applied to the pixels only; None for float32.
        with_erasing: Whether to apply random erasing.
    """
    images, *rest = batch
    if not isinstance(images, RawImages):
        return batch
    finished: Any = images.finished(to_input, with_erasing=with_erasing)
    if precision is not None:
        finished = precision.convert_input(finished)
    return batch._replace(images=finished) if isinstance(batch, UnlabeledBatch) else (finished, *rest)
