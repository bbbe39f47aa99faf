"""What tells one data set from another: class by class, how many images it has and which."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from inceptionnext_lit.data.sources.sample_table import Sample, labels_of

_CHUNK = 4096
_THREADS = 16  # the answers of a network disk are waited for side by side

Fingerprint = dict[str, tuple[int, int]]
"""Of each class, the number of its images, and a number that depends on their paths and sizes, not on their order."""


def fingerprint(samples: Iterable[Sample], root: str, classes: Sequence[str]) -> Fingerprint:
    """Look at the path, the size and the labels of each image of a split; no image is opened.

    Args:
        samples: The images.
        root: The folder that paths are taken relative to, so that it may lie elsewhere on another machine.
        classes: The class names in index order.

    Returns:
        A dictionary with the classes that have images, and an empty name for images without a label.
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
    """The fingerprint of the images of several splits, of which none has an image of another."""
    whole: Fingerprint = {}
    for split in splits:
        for name, (count, mark) in split.items():
            have, sum_ = whole.get(name, (0, 0))
            whole[name] = have + count, (sum_ + mark) % 2**63
    return whole


def _mark(sample: Sample, prefix: str) -> tuple[tuple[int, ...], int]:
    try:
        size = os.stat(sample.path).st_size
    except OSError:
        size = -1  # whoever reads it will say so
    text = os.fsencode(f"{size}\0{sample.path.removeprefix(prefix)}")
    return labels_of(sample), int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
