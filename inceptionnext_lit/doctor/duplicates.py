"""Group files that show the same picture.

Exact duplicates have the same bytes. Near duplicates are found in thumbnails of 24×24 gray levels that meet all of
these conditions:

1. The cosine similarity of the two thumbnails, after subtracting their means, is at least 0.99.
2. After the best fit of brightness and contrast, no point differs by more than 32 of 255 levels.
3. That fit changes the contrast by a factor of at most 1.5, and mean red, green and blue differ by at most 48 levels.

This finds copies that were resized, recompressed or made slightly brighter, but not cropped, mirrored, rotated or
grayscale ones. For photographs at half or a third of their size, at JPEG quality 30, or 10% brighter, the maximum
difference of condition 2 was at most 15; for the embedded images of clothes, 10% brighter, at most 19. Of the 25
million pairs among the latter, which are small and similar, one pair met all conditions, a dress at two brightnesses;
the next ones differed by 44 and more. Images of almost one color, and those with a nearly uniform thumbnail, are
skipped, since they cannot be told apart.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.doctor.examine import Examination

_COSINE = 0.99
_DIFFERENCE = 32  # levels of 255
_CONTRAST = 1.5
_COLOR = 48  # levels of 255
_LEAST_SPREAD = 4  # standard deviation of a thumbnail, in levels of 255
_ROWS = 1024  # thumbnails compared with all others at a time
_PAIRS = 8192  # pairs verified at a time

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


def duplicate_groups(examinations: Sequence[Examination]) -> list[list[int]]:
    """Group files that show the same picture, exactly or nearly.

    A file belongs to a group if it looks like any of its members, so the two ends of a series may differ by more than
    the conditions allow. Unreadable files belong to no group.

    Args:
        examinations: What is known of each file.

    Returns:
        Indices of each group of two or more, in ascending order.
    """
    same_bytes: dict[bytes, list[int]] = {}
    for index, examination in enumerate(examinations):
        if not examination.error:
            same_bytes.setdefault(examination.digest, []).append(index)
    groups = list(same_bytes.values())
    ones = [n for n, group in enumerate(groups) if not examinations[group[0]].look.is_plain]
    parent = _connect([examinations[groups[n][0]] for n in ones])
    merged: dict[int, list[int]] = {}
    for n, group in enumerate(groups):
        merged.setdefault(n, []).extend(group)
    for n, root in zip(ones, parent, strict=True):
        if ones[root] != n:
            merged[ones[root]].extend(merged.pop(n))
    return sorted(sorted(group) for group in merged.values() if len(group) > 1)


def _connect(examinations: Sequence[Examination]) -> list[int]:
    """Return the connected components of near duplicates, as the index of one representative for each file."""
    roots = np.arange(len(examinations))
    if len(examinations) < 2:
        return [int(root) for root in roots]
    levels = np.frombuffer(b"".join(e.look.thumbnail for e in examinations), np.uint8).reshape(len(examinations), -1)
    colors = np.array([e.look.color for e in examinations], np.float32)
    for left, right in _candidates(levels):
        for start in range(0, len(left), _PAIRS):
            a, b = left[start : start + _PAIRS], right[start : start + _PAIRS]
            apart = roots[a] != roots[b]  # in a long series, nearly all pairs are already connected
            a, b = a[apart], b[apart]
            alike = _verify(levels[a].astype(np.float32), levels[b].astype(np.float32), colors[a] - colors[b])
            for i, j in zip(a[alike], b[alike], strict=True):
                if roots[i] != roots[j]:
                    roots[roots == roots[j]] = roots[i]
    return [int(root) for root in roots]


def _candidates(levels: NDArray[np.uint8]) -> Iterator[tuple[Indices, Indices]]:
    """Yield all pairs with a sufficient cosine similarity, in chunks.

    Vectors that are close are close in every direction. Sorted by the direction that varies most, each row therefore
    needs to be compared only within a window, without losing a pair.

    Args:
        levels: Thumbnails, (N, 576).
    """
    vectors = levels.astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1)
    kept = np.flatnonzero(norms >= _LEAST_SPREAD * np.sqrt(vectors.shape[1]))
    vectors = vectors[kept] / norms[kept, None]
    direction = np.linalg.eigh(vectors.T @ vectors)[1][:, -1]
    places = vectors @ direction
    order = np.argsort(places, kind="stable")
    vectors, kept, places = vectors[order], kept[order], places[order]
    reach = np.sqrt(2 - 2 * _COSINE) + 1e-4
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        end = int(np.searchsorted(places, places[start + len(rows) - 1] + reach, side="right"))
        for first in range(start, end, 8 * _ROWS):
            cosines = rows @ vectors[first : min(first + 8 * _ROWS, end)].T
            i, j = np.nonzero(cosines >= _COSINE)
            i, j = i + start, j + first
            yield kept[i[i < j]], kept[j[i < j]]


def _verify(a: Floats, b: Floats, color_difference: Floats) -> NDArray[np.bool_]:
    """Check conditions 2 and 3 for pairs of thumbnails (M, 576) and differences of mean colors (M, 3)."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    contrast = (a * b).sum(axis=1) / (a * a).sum(axis=1)
    difference = np.abs(contrast[:, None] * a - b).max(axis=1)
    same_light: NDArray[np.bool_] = (contrast <= _CONTRAST) & (contrast >= 1 / _CONTRAST)
    same_light &= np.abs(color_difference).max(axis=1) <= _COLOR
    alike: NDArray[np.bool_] = same_light & (difference <= _DIFFERENCE)
    return alike
