"""Fingerprints of data sets: the number and identity of the images per class."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from inceptionnext_lit.data.sources.sample_table import Sample, labels_of

_CHUNK = 4096
_THREADS = 16  # network disks answer many requests at once

Fingerprint = dict[str, tuple[int, int]]
"""For each class, the number of its images, and a hash of their paths and sizes that does not depend on the order."""


def fingerprint(samples: Iterable[Sample], root: str, classes: Sequence[str]) -> Fingerprint:
    """Compute a split's fingerprint from the path, size and labels of each image, without opening them.

    Args:
        samples: The images.
        root: The folder that paths are relative to, which may differ between machines.
        classes: The class names in index order.

    Returns:
        A dictionary by class name, without empty classes; images without a label are under an empty name.
    """
    prefix = os.path.join(root, "")
    iterator = iter(samples)
    chunks = iter(lambda: list(islice(iterator, _CHUNK)), [])
    found: Fingerprint = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for marks in pool.map(lambda chunk: [_mark(sample, prefix) for sample in chunk], chunks):
            for labels, mark in marks:
                for name in [classes[label] for label in labels] or [""]:
                    count, sum_ = found.get(name, (0, 0))
                    found[name] = count + 1, (sum_ + mark) % 2**63
    return found


def together(splits: Iterable[Fingerprint]) -> Fingerprint:
    """Combine the fingerprints of disjoint splits."""
    whole: Fingerprint = {}
    for split in splits:
        for name, (count, mark) in split.items():
            have, sum_ = whole.get(name, (0, 0))
            whole[name] = have + count, (sum_ + mark) % 2**63
    return whole


def total(splits: Iterable[Fingerprint]) -> list[int]:
    """Return the number of images of disjoint splits, counted once per label, and the sum of their hashes."""
    classes = together(splits).values()
    return [sum(count for count, _ in classes), sum(mark for _, mark in classes) % 2**63]


def _mark(sample: Sample, prefix: str) -> tuple[tuple[int, ...], int]:
    try:
        size = os.stat(sample.path).st_size
    except OSError:
        size = -1  # reading it will raise the error
    text = os.fsencode(f"{size}\0{sample.path.removeprefix(prefix)}")
    return labels_of(sample), int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
