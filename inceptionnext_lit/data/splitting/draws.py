"""Random numbers for images that depend only on a seed and their paths below the data folder."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Indices, Samples

_NOT_NORMAL = re.compile(r"(^|/)\.{0,2}(/|$)")  # parts that relpath would change: empty ones, . and ..


def draw_keys(images: Samples, root: Path, seed: str) -> NDArray[np.uint64]:
    """Draw a random number of 128 bits for each image, in two columns: (N, 2)."""
    start = hashlib.sha256(f"{seed}:".encode())
    digests = bytearray()
    for name in relative_names(images.paths, root):
        digest = start.copy()
        digest.update(os.fsencode(name))
        digests += digest.digest()[:16]
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def order_by(keys: NDArray[np.uint64], *major: NDArray[Any]) -> Indices:
    """Return the order of images by ``major`` values, of which the last is the primary key, then by random numbers."""
    return np.lexsort((keys[:, 1], keys[:, 0], *major)).astype(np.int64)


def relative_names(paths: PackedStrings, root: Path) -> Iterator[str]:
    """Yield paths relative to a folder, with slashes, the same on every machine."""
    prefix = os.path.join(root, "")
    for path in paths:
        name = path[len(prefix) :]
        if not path.startswith(prefix) or _NOT_NORMAL.search(name):
            name = os.path.relpath(path, root)
        yield name.replace(os.sep, "/")
