"""Data sets to transfer to: which images are trained on, selected on and tested on."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.sample_table import Indices, Samples
from inceptionnext_lit.data.splitting.copies import find_copies
from inceptionnext_lit.data.splitting.draws import relative_names
from inceptionnext_lit.data.splitting.selection import hold_back
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.transfer.scores import Metric, Targets
from inceptionnext_lit.wording import count

HELD_BACK = 0.2
_THREADS = 16  # network disks answer many requests at once
_TEST_SEED = 0


@dataclass(frozen=True)
class TransferData:
    """A data set with its training, validation and test images.

    Attributes:
        title: What tables call it.
        root: The folder or manifest.
        metric: Its metric.
        class_names: The training images' classes in index order.
        samples: All images.
        train: Indices of the training images, including those to hold back for validation.
        val: Indices of the validation split's images; None if a part of ``train`` is held back.
        test: Indices of the test images.
        notes: What is unusual about its splits, in sentences.
    """

    title: str
    root: ImageRoot
    metric: Metric
    class_names: list[str]
    samples: Samples
    train: Indices
    val: Indices | None
    test: Indices
    notes: tuple[str, ...] = ()

    @property
    def holds_back(self) -> bool:
        """Whether validation images are held back from the training images, by a seed."""
        return self.val is None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.samples.counts is not None

    def __str__(self) -> str:
        """Describe its images."""
        val = "a fifth of them held back for validation" if self.val is None else f"{len(self.val):,} for validation"
        return (
            f"{self.title}: {count(len(self.class_names), 'class', 'classes')}, {len(self.train):,} images for "
            f"training, {val}, {len(self.test):,} for the test"
        )

    def trained_on(self) -> Indices:
        """Return the images to train on when no further choice is made: the training and the validation images."""
        return self.train if self.val is None else np.concatenate([self.train, self.val])

    def selection(self, seed: int) -> tuple[Indices, Indices]:
        """Return the images to train on and to choose settings on.

        Args:
            seed: Seed of the held-back images; without effect if there is a validation split.

        Raises:
            UserError: If no image can be held back.
        """
        if self.val is not None:
            return self.train, self.val
        held = _held_back(self.samples.take(self.train), self.root, self.class_names, seed, self._copies)
        return self.train[~held], self.train[held]

    @cached_property
    def _copies(self) -> Indices | None:
        return find_copies(self.samples.take(self.train))

    def targets(self, indices: Indices) -> Targets:
        """Return the classes of images: (n,), or (n, K) if an image may have several."""
        if not self.multi_label:
            return self.samples.labels[indices].astype(np.int64)
        chosen = self.samples.take(indices)
        targets = np.zeros((len(chosen), len(self.class_names)), dtype=bool)
        targets[chosen.owners(), chosen.labels] = True
        return targets

    @cached_property
    def files(self) -> str:
        """A hash of the paths below the folder, sizes and modification times of all images, in order."""
        digest = hashlib.sha256()
        with ThreadPoolExecutor(_THREADS) as pool:
            stamps = pool.map(_stamp, self.samples.paths)
            for name, stamp in zip(relative_names(self.samples.paths, self.root.source.root), stamps, strict=True):
                digest.update(os.fsencode(name) + stamp)
        return digest.hexdigest()

    @cached_property
    def identity(self) -> str:
        """A hash of the images, their classes, their splits and the metric."""
        digest = hashlib.sha256(self.files.encode())
        digest.update(repr((self.metric, self.class_names)).encode(errors="surrogateescape"))
        for array in (self.samples.labels, self.samples.counts, self.train, self.val, self.test):
            digest.update(b"-" if array is None else str(len(array)).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def open_data(title: str, root: ImageRoot, metric: Metric) -> TransferData:
    """List a data set's images, and decide which are trained on, selected on and tested on.

    Without a test split, the validation split is tested on; without both, a part of the training images, the same for
    all seeds. Validation images are then held back from the remaining training images.

    Args:
        title: What tables call it.
        root: The folder or manifest.
        metric: Its metric.

    Raises:
        UserError: If there are no training images, or an evaluated image has a class that no training image has.
    """
    source = root.source
    names = source.classes()
    train = source.samples("train", None) or Samples.of([])
    val, test = (source.evaluated(split, names) for split in ("val", "test"))
    notes: list[str] = []
    if test is None and val is not None:
        notes.append(
            f"{title} has no test split: it is tested on its {len(val):,} validation images, and settings are chosen "
            "on images held back from training"
        )
        val, test = None, val
    if test is None:
        held = _held_back(train, root, names, _TEST_SEED, find_copies(train))
        test, train = train.take(held), train.take(~held)
        notes.append(
            f"{title} has no test split: it is tested on {count(len(test), 'image')} held back from training, the same "
            "for all seeds"
        )
    ends = np.cumsum([0, len(train), 0 if val is None else len(val), len(test)])
    whole = train + test if val is None else train + val + test
    parts = [np.arange(*pair) for pair in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    return TransferData(
        title, root, metric, names, whole, parts[0], None if val is None else parts[1], parts[2], tuple(notes)
    )


def _held_back(
    images: Samples, root: ImageRoot, names: Sequence[str], seed: int, copies: Indices | None
) -> NDArray[np.bool_]:
    """Return which images to hold back: a fifth of each class, but none of a class with a single image."""
    sizes = np.bincount(images.labels, minlength=len(names))
    alone = np.zeros(len(images), dtype=bool) if images.counts is not None else sizes[images.labels] == 1
    if alone.all():
        raise UserError(
            f"Every class of {root.named} has a single training image, so none can be held back; add images, or a "
            "validation split."
        )
    if alone.any():
        images_left = images.take(~alone)
        copies = None if copies is None else find_copies(images_left)
    else:
        images_left = images
    _, held = hold_back(images_left, root.source.root, HELD_BACK, seed, names, copies)
    chosen = set(held.paths)
    is_held = np.fromiter((path in chosen for path in images.paths), dtype=bool, count=len(images))
    of_label = is_held[images.owners()]
    left = np.bincount(images.labels[~of_label], minlength=len(names))
    lost = np.unique(images.owners()[of_label & (left[images.labels] == 0)])  # with the only images of a label
    is_held[lost] = False
    return is_held


def _stamp(path: str) -> bytes:
    try:
        found = os.stat(path)
    except OSError:  # reading it will say why
        return b"\0missing\0"
    return f"\0{found.st_size} {found.st_mtime_ns}\0".encode()
