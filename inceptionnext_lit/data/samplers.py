"""Which image comes when, on which process: functions of seed, epoch and position alone."""

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
        epoch: The epoch that it is drawn for.
        repeat: How often it was drawn before in this epoch (repeated augmentation).
        counts: False where it only fills up a process's share of an evaluation.
    """

    image: int
    epoch: int = 0
    repeat: int = 0
    counts: bool = True


class _Indices(Dataset[Draw]):
    """Stands for the data set in torch's constructor, which only asks for its length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class TrainingSampler(DistributedSampler[Draw]):
    """The shuffled order of each epoch, dealt out to the processes like cards.

    Step k of an epoch uses the same images on any number of processes, as long as the images per step are the same.
    An epoch ends with its last full step. (A ``DistributedSampler``, so that Lightning does not put its own around it.)

    Args:
        length: Images in the data set.
        step_size: Images of one optimiser step over all processes; divisible by ``replicas``.
        seed: The run's seed.
        replicas: Processes.
        rank: This process's number.
        repeats: Times that an image is drawn in a row, each time augmented afresh; an epoch stays as long as without,
            so that it has fewer different images (repeated augmentation, arXiv 1901.09335).
        shuffle: Whether the order is random.
        balanced: The images of each class; an epoch then draws the classes equally often, the images of a small class
            again and again and a random part of those of a large one. None draws each image once.
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
        """Begin with an epoch of which this process has already seen its first ``skipped`` images."""
        self.set_epoch(epoch)
        self._start = epoch, skipped

    def __iter__(self) -> Iterator[Draw]:
        """This process's images of one epoch: the one that ``set_epoch`` named, or else the next."""
        epoch, (started, skipped) = self.epoch, self._start
        self.epoch, self._start = epoch + 1, (0, 0)
        return islice(self.draws(epoch), skipped if epoch == started else 0, None)

    def draws(self, epoch: int) -> Iterator[Draw]:
        """This process's images of an epoch, in order."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        if self.balanced is not None:
            order = _balanced_order(self.length, self.balanced, generator)
        else:
            order = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        places = torch.arange(self.rank, self.num_samples * self.num_replicas, self.num_replicas)
        images, repeats = order[places // self.repeats].tolist(), (places % self.repeats).tolist()
        return (Draw(image, epoch, repeat) for image, repeat in zip(images, repeats, strict=True))


def _balanced_order(length: int, classes: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """So many images in random order, of each class equally many, give or take one."""
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
    """Every image once, whole batches dealt out to the processes.

    The batches are those of a single process, so that every figure comes out the same. A process that would have a
    batch less than the others, for which they would wait forever, gets one image more, which does not count.

    Args:
        length: Images in the data set.
        batch_size: Images per batch.
        replicas: Processes.
        rank: This process's number.
    """

    def __init__(self, length: int, batch_size: int, *, replicas: int = 1, rank: int = 0) -> None:
        super().__init__(_Indices(length), num_replicas=replicas, rank=rank, shuffle=False)
        self._starts = range(rank * batch_size, length, replicas * batch_size)
        self._length, self._batch_size = length, batch_size
        batches = -(-length // batch_size)
        self._fills_up = len(self._starts) < -(-batches // replicas)
        last = length - self._starts[-1] if self._starts else batch_size
        self.num_samples = len(self._starts) * batch_size - max(0, batch_size - last) + self._fills_up

    def __iter__(self) -> Iterator[Draw]:
        """This process's images, and perhaps one that does not count."""
        for start in self._starts:
            yield from map(Draw, range(start, min(start + self._batch_size, self._length)))
        if self._fills_up:
            yield Draw(0, counts=False)
