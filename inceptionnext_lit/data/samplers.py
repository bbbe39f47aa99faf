"""Samplers that shard images across ranks; the order depends only on seed, epoch and position."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from inceptionnext_lit.seeding import derive


class Draw(NamedTuple):
    """One use of an image.

    Attributes:
        image: The image's index in the data set.
        epoch: The epoch.
        repeat: How often it was drawn before in this epoch (repeated augmentation).
        counts: False for the padding of a rank in evaluation.
    """

    image: int
    epoch: int = 0
    repeat: int = 0
    counts: bool = True


class _Indices(Dataset[Draw]):
    """A placeholder data set for torch's constructor, which only needs its length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class TrainingSampler(DistributedSampler[Draw]):
    """Training sampler: the shuffled order of each epoch, sharded round-robin across ranks.

    Step k of an epoch uses the same images on any number of ranks, as long as the number of images per step is the
    same. An epoch ends with its last full step. It is a ``DistributedSampler`` so that Lightning does not wrap it.

    Args:
        length: Number of images in the data set.
        step_size: Images per optimizer step over all ranks; divisible by ``replicas``.
        seed: The run's seed.
        replicas: Number of ranks.
        rank: This process's rank.
        repeats: How often an image is drawn in a row, each time with new augmentation; the length of an epoch does not
            change, so it has fewer distinct images (repeated augmentation, arXiv 1901.09335).
        shuffle: Whether the order is random.
        balanced: The images of each class, to draw all classes equally often in an epoch: the images of a small class
            repeatedly, and a random subset of a large class. None draws each image once.
    """

    def __init__(
        self,
        length: int,
        step_size: int,
        *,
        seed: int,
        replicas: int = 1,
        rank: int = 0,
        repeats: int = 1,
        shuffle: bool = True,
        balanced: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(_Indices(length), num_replicas=replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.balanced = None if balanced is None else [torch.tensor(images) for images in balanced if len(images)]
        self.length = length
        self.repeats = repeats
        self.num_samples = length // step_size * step_size // replicas
        self._start = 0, 0

    def start(self, epoch: int, skipped: int) -> None:
        """Start at an epoch of which this rank has already seen its first ``skipped`` images."""
        self.set_epoch(epoch)
        self._start = epoch, skipped

    def __iter__(self) -> Iterator[Draw]:
        """Iterate over this rank's images of one epoch: the one given to ``set_epoch``, otherwise the next."""
        epoch, (started, skipped) = self.epoch, self._start
        self.epoch, self._start = epoch + 1, (0, 0)
        return islice(self.draws(epoch), skipped if epoch == started else 0, None)

    def draws(self, epoch: int) -> Iterator[Draw]:
        """Return this rank's images of an epoch, in order."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        if self.balanced is not None:
            order = _balanced_order(self.length, self.balanced, generator)
        else:
            order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        places = torch.arange(self.rank, self.num_samples * self.num_replicas, self.num_replicas)
        images, repeats = order[places // self.repeats].tolist(), (places % self.repeats).tolist()
        return (Draw(image, epoch, repeat) for image, repeat in zip(images, repeats, strict=True))


def _balanced_order(length: int, classes: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return ``length`` images in random order, with equally many of each class, give or take one."""
    extra = set(torch.randperm(len(classes), generator=generator)[: length % len(classes)].tolist())
    drawn = []
    for number, images in enumerate(classes):
        wanted = length // len(classes) + (number in extra)
        rounds = -(-wanted // len(images))
        orders = [images[torch.randperm(len(images), generator=generator)] for _ in range(rounds)]
        drawn.append(torch.cat(orders)[:wanted] if rounds else images[:0])
    order = torch.cat(drawn)
    return order[torch.randperm(length, generator=generator)]


class EvaluationSampler(DistributedSampler[Draw]):
    """Evaluation sampler: every image once, with whole batches sharded round-robin across ranks.

    The batches are the same as on a single rank, so all metrics are the same. A rank with one batch less than the
    others, which would block them, is padded with one image that does not count.

    Args:
        length: Number of images in the data set.
        batch_size: Images per batch.
        replicas: Number of ranks.
        rank: This process's rank.
    """

    def __init__(self, length: int, batch_size: int, *, replicas: int = 1, rank: int = 0) -> None:
        super().__init__(_Indices(length), num_replicas=replicas, rank=rank, shuffle=False)
        self._starts = range(rank * batch_size, length, replicas * batch_size)
        self._length, self._batch_size = length, batch_size
        batches = -(-length // batch_size)
        self._is_padded = len(self._starts) < -(-batches // replicas)
        last = length - self._starts[-1] if self._starts else batch_size
        self.num_samples = len(self._starts) * batch_size - max(0, batch_size - last) + self._is_padded

    def __iter__(self) -> Iterator[Draw]:
        """Yield this rank's images, and padding if needed."""
        for start in self._starts:
            yield from map(Draw, range(start, min(start + self._batch_size, self._length)))
        if self._is_padded:
            yield Draw(0, counts=False)
