"""An image of a data set, before it is read."""

from collections.abc import Sequence
from typing import NamedTuple

Label = int | tuple[int, ...]
"""The index of a class; in a multi-label data set the indices of an image's labels, in ascending order."""


class Sample(NamedTuple):
    """An image file and what is known of it.

    Attributes:
        path: The file.
        label: Its class or classes.
        weight: How much it counts in the training loss.
        group: What must stay on one side of a split; None where nothing is said.
    """

    path: str
    label: Label
    weight: float = 1.0
    group: str | None = None


def labels_of(sample: Sample) -> tuple[int, ...]:
    """A sample's classes, of which it has one unless the data set is multi-label."""
    return (sample.label,) if isinstance(sample.label, int) else sample.label


def count_labels(samples: Sequence[Sample], num_classes: int) -> list[int]:
    """How many samples each class has."""
    counts = [0] * num_classes
    for sample in samples:
        for label in labels_of(sample):
            counts[label] += 1
    return counts
