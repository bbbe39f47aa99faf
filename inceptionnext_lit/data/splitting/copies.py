"""Find copies of images, by content or by name, which must not be on both sides of a split."""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.sample_table import Indices, Samples
from inceptionnext_lit.data.sources.scan import is_rank_zero

_LOOKED_INTO = 200_000  # files whose last bytes are read
_TAIL = 4096  # bytes; they differ between photographs of the same size
_ALIKE = 10  # images of one name; more are numbered, such as Windows' photo (1).jpg to photo (500).jpg
_THREADS = 16  # network disks answer many at once
_SUFFIX = re.compile(
    r"(?:\s*\(\d{1,3}\)"  # photo (1)
    r"|[\s_-]+(?:copy|copie|kopie|copia|duplicate)(?:[\s_-]*\(?\d{1,3}\)?)?"  # photo_copy, photo - Copy (2)
    r"|[\s_-]+\d{2,5}x\d{2,5}"  # photo-150x150
    r"|@\dx|[\s_-]+(?:scaled|thumb|thumbnail|resized))+$",
    re.IGNORECASE,
)
_PERHAPS = re.compile(r"\)$|[0-9]x[0-9]*$|cop[yi]|kopie|plicate|scaled|thumb|resized", re.IGNORECASE)  # a quick check
_T = TypeVar("_T")


def find_copies(images: Samples) -> Indices | None:
    """Find images that belong together, because of equal content or names that mark copies.

    The cost is bounded. The size of each file is read; then the last 4 KiB of files with equal sizes; then the whole
    content of files whose last 4 KiB are also equal. If more than 200,000 files share a size with another one, only
    files of the same class are compared, and if there are still as many, none, with a warning.

    Args:
        images: The images.

    Returns:
        The index of the first image that each belongs with, (N,); None if there are no copies.
    """
    heads = np.arange(len(images))
    for group in [*_same_content(images), *_same_name(images)]:
        roots = [_root(heads, index) for index in group]
        heads[roots] = min(roots)
    while ((further := heads[heads]) != heads).any():
        heads = further
    return heads if (heads != np.arange(len(images))).any() else None


def _root(heads: Indices, index: int) -> int:
    while heads[index] != index:
        index = int(heads[index])
    return index


def _same_content(images: Samples) -> list[list[int]]:
    sizes = np.fromiter(_each(images.paths, _size), dtype=np.int64, count=len(images))
    sizes[sizes == 0] = -1  # empty and inaccessible files are not copies
    found = _of_one_size(sizes, sizes)
    if len(found) > _LOOKED_INTO:
        within_class = images.counts is None
        if within_class:
            found = _of_one_size(sizes, sizes * (int(images.labels.max(initial=0)) + 1) + images.labels)
        compared = within_class and len(found) <= _LOOKED_INTO
        _warn_of_bound(len(images), compared)
        if not compared:
            return []
    groups = _by_digest(images, found, sizes, _tail)
    return [same for group in groups for same in _by_digest(images, np.array(group), sizes, _whole)]


def _of_one_size(sizes: Indices, keys: Indices) -> Indices:
    """Return the images that share a key with another one, without empty files."""
    return np.flatnonzero(_repeated(keys) & (sizes > 0))


def _warn_of_bound(images: int, compared: bool) -> None:
    if is_rank_zero():
        where = "only within a class" if compared else "only by their names"
        warnings.warn(
            f"Among {images:,} images, copies were searched {where}, so training and validation may share "
            "others; the subcommand doctor finds all copies.",
            stacklevel=2,
        )


def _by_digest(images: Samples, chosen: Indices, sizes: Indices, digest: Callable[[str], bytes]) -> list[list[int]]:
    """Group images with the same size and digest, in groups of two or more."""
    groups: dict[tuple[int, bytes], list[int]] = {}
    digests = _each(images.paths.take(chosen), digest)
    for index, of_file in zip(chosen.tolist(), digests, strict=True):
        if of_file:
            groups.setdefault((int(sizes[index]), of_file), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _same_name(images: Samples) -> list[list[int]]:
    """Group images in one folder with the same name, ignoring suffixes and marks of copies."""
    names = (_unmarked(os.path.splitext(path)[0]) for path in images.paths)
    hashes = np.fromiter(map(hash, names), dtype=np.int64, count=len(images))
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    originals = set()
    for index in np.flatnonzero(_repeated(hashes)).tolist():
        stem = os.path.splitext(images.paths[index])[0]
        unmarked = _unmarked(stem)
        name = unmarked, images.labels_of(index)
        groups.setdefault(name, []).append(index)
        if unmarked == stem:
            originals.add(name)
    return [group for name, group in groups.items() if 1 < len(group) <= _ALIKE and name in originals]


def _unmarked(stem: str) -> str:
    """Remove the mark of a copy from a path without suffix."""
    return _SUFFIX.sub("", stem) or stem if _PERHAPS.search(stem, len(stem) - 12) else stem


def _repeated(values: Indices) -> NDArray[np.bool_]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    repeated: NDArray[np.bool_] = counts[inverse] > 1
    return repeated


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _tail(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return hashlib.blake2b(file.read(_TAIL), digest_size=16).digest()
    except OSError:
        return b""


def _whole(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def _each(paths: Iterable[str], function: Callable[[str], _T]) -> Iterator[_T]:
    """Apply a function to all paths in parallel, and yield the results in order."""

    def of_some(some: list[str]) -> list[_T]:
        return [function(path) for path in some]

    waiting = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := [list(islice(waiting, 64)) for _ in range(8 * _THREADS)]:
            for done in pool.map(of_some, chunk):
                yield from done
            if not chunk[-1]:
                return
