"""The list of a data set's image files, with labels, weights and groups."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.packed_strings import PackedStrings

Label = int | tuple[int, ...]
"""A class index; in a multi-label data set, the class indices of an image in ascending order."""
Indices = NDArray[np.int64]


class Sample(NamedTuple):
    """An image file with its labels.

    Attributes:
        path: The file.
        label: Its class or classes.
        weight: Its weight in the training loss.
        group: Its group, which must stay in one split; None without groups.
    """

    path: str
    label: Label
    weight: float = 1.0
    group: str | None = None


class Samples(Sequence[Sample]):
    """A sequence of images stored in arrays: tens of bytes per image, shared by all loader processes.

    Args:
        paths: The N files.
        labels: The class of each image, int32 (N,); if multi-label, the concatenated classes of all images.
        counts: Number of labels of each image, int32 (N,); None if each has one.
        weights: Weight of each image in the training loss, float64 (N,); None if all are 1.
        groups: Group of each image; None without groups.
    """

    def __init__(
        self,
        paths: PackedStrings,
        labels: NDArray[np.int32],
        counts: NDArray[np.int32] | None = None,
        weights: NDArray[np.float64] | None = None,
        groups: PackedStrings | None = None,
    ) -> None:
        self.paths = paths
        self.labels = labels
        self.counts = counts
        self.weights = weights
        self.groups = groups
        self._ends = None if counts is None else np.cumsum(counts, dtype=np.int64)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Samples":
        """Pack samples, which must be all single-label or all multi-label, and all with or all without a group."""
        if isinstance(samples, Samples):
            return samples
        labels, counts, weights, groups = array("i"), array("i"), array("d"), []
        several = False

        def paths() -> Iterator[str]:
            nonlocal several
            for sample in samples:
                several = several or isinstance(sample.label, tuple)
                of_image = labels_of(sample)
                labels.extend(of_image)
                counts.append(len(of_image))
                weights.append(sample.weight)
                if sample.group is not None:
                    groups.append(sample.group)
                yield sample.path

        packed = PackedStrings.of(paths())
        own = np.array(weights, dtype=np.float64)
        return cls(
            packed,
            np.array(labels, dtype=np.int32),
            np.array(counts, dtype=np.int32) if several else None,
            None if (own == 1).all() else own,
            PackedStrings.of(groups) if groups else None,
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Samples": ...

    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        """Return an image, or a part of the sequence."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return Sample(
            self.paths[index],
            self._label(index),
            1.0 if self.weights is None else float(self.weights[index]),
            None if self.groups is None else self.groups[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over the images in order."""
        groups: Iterable[str | None] = repeat(None, len(self)) if self.groups is None else self.groups
        for index, (path, group) in enumerate(zip(self.paths, groups, strict=True)):
            weight = 1.0 if self.weights is None else float(self.weights[index])
            yield Sample(path, self._label(index), weight, group)

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence has the same images."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Sequence[Sample]) -> "Samples":
        """Concatenate with other images of the same label type."""
        more = Samples.of(other)
        if not len(self) or not len(more):
            return self if len(self) else more
        weights = None
        if self.weights is not None or more.weights is not None:
            weights = np.concatenate([np.ones(len(p)) if p.weights is None else p.weights for p in (self, more)])
        counts, groups = None, None
        if self.counts is not None and more.counts is not None:
            counts = np.concatenate([self.counts, more.counts])
        if self.groups is not None and more.groups is not None:
            groups = self.groups + more.groups
        return Samples(self.paths + more.paths, np.concatenate([self.labels, more.labels]), counts, weights, groups)

    def take(self, which: NDArray[Any]) -> "Samples":
        """Select images by indices or by a mask."""
        chosen: Indices = np.flatnonzero(which) if which.dtype == bool else which
        labels, counts = self.labels, None
        if self.counts is None or self._ends is None:
            labels = labels[chosen]
        else:
            counts = self.counts[chosen]
            first_in_result = np.cumsum(counts, dtype=np.int64) - counts
            shift = self._ends[chosen] - counts - first_in_result
            labels = labels[np.arange(counts.sum()) + np.repeat(shift, counts)]
        return Samples(
            self.paths.take(chosen),
            labels,
            counts,
            None if self.weights is None else self.weights[chosen],
            None if self.groups is None else self.groups.take(chosen),
        )

    def relabeled(self, numbers: NDArray[np.int32]) -> "Samples":
        """Return the same images with each label replaced by ``numbers[label]``."""
        labels = numbers[self.labels]
        if self.counts is not None:
            labels = labels[np.lexsort((labels, self.owners()))]
        return Samples(self.paths, labels, self.counts, self.weights, self.groups)

    def owners(self) -> Indices:
        """Return the index of the image that each entry of ``labels`` belongs to."""
        images = np.arange(len(self))
        return images if self.counts is None else np.repeat(images, self.counts)

    def labels_of(self, index: int) -> tuple[int, ...]:
        """Return the classes of an image, a single one unless the data set is multi-label."""
        if self.counts is None or self._ends is None:
            return (int(self.labels[index]),)
        end = self._ends[index]
        return tuple(self.labels[end - self.counts[index] : end].tolist())

    def _label(self, index: int) -> Label:
        labels = self.labels_of(index)
        return labels[0] if self.counts is None else labels


def labels_of(sample: Sample) -> tuple[int, ...]:
    """Return a sample's classes, a single one unless the data set is multi-label."""
    return (sample.label,) if isinstance(sample.label, int) else sample.label
