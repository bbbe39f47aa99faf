"""Rasterize polygons and run lengths into masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""The corners of a polygon: x and y in pixels, (N, 2); the first pixel reaches from 0 to 1."""

Filled = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """An object of one class.

    Attributes:
        index: Index of its class, or 255 for pixels to ignore.
        rings: Its polygons, whose union it is.
        filled: Its pixels (H, W) with the position of their first row and column, instead of polygons.
    """

    index: int
    rings: Sequence[Ring] = ()
    filled: tuple[int, int, Filled] | None = None


def paint(shapes: Iterable[Shape], height: int, width: int, background: int = 0) -> NDArray[np.uint8]:
    """Paint objects into a mask; where they overlap, the one with fewer pixels is on top.

    Args:
        shapes: The objects; of two with equally many pixels, the later one is on top.
        height: Height of the mask.
        width: Width of the mask.
        background: Value of the pixels without an object.
    """
    parts = []
    for shape in shapes:
        top, left, filled = _within(shape, height, width)
        parts.append((int(filled.sum()), shape.index, top, left, filled))
    mask = np.full((height, width), background, dtype=np.uint8)
    for _, index, top, left, filled in sorted(parts, key=lambda part: -part[0]):
        rows, columns = filled.shape
        mask[top : top + rows, left : left + columns][filled] = index
    return mask


def fill(ring: Ring, height: int, width: int) -> Filled:
    """Return the pixels whose centers are inside a polygon, by the even-odd rule; (height, width).

    Args:
        ring: Its corners, (N, 2).
        height: Height of the mask; corners may be outside.
        width: Width of the mask.
    """
    x, y = ring[:, 0], ring[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # the rows whose centers an edge crosses: each edge has its upper end, and not its lower one
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    counts = last - first
    edges = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    slopes = (rows + 0.5 - y[edges]) / (next_y - y)[edges]
    crossings = x[edges] + slopes * (next_x - x)[edges]
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    np.bitwise_xor.at(toggles, (rows, columns), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def decode_runs(counts: Sequence[int] | str | bytes, height: int, width: int) -> Filled:
    """Decode COCO's run lengths, which alternate between pixels outside and inside, column by column.

    Args:
        counts: The lengths, or COCO's compressed text of them.
        height: Height of the mask.
        width: Width of the mask.

    Raises:
        ValueError: If they do not add up to the mask's size.
    """
    lengths = _decompressed(counts) if isinstance(counts, str | bytes) else [int(count) for count in counts]
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise ValueError(f"the run lengths add up to {sum(lengths)} pixels instead of {height} × {width}")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def _within(shape: Shape, height: int, width: int) -> tuple[int, int, Filled]:
    """Return the pixels of an object in the smallest part of the mask that contains it, and the part's position."""
    if shape.filled is not None:
        top, left, filled = shape.filled
        rows, columns = slice(max(0, -top), height - top), slice(max(0, -left), width - left)
        return max(0, top), max(0, left), filled[rows, columns]
    if not len(shape.rings):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    corners = np.concatenate(list(shape.rings))
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int).tolist()
    whole = np.zeros((bottom - top, right - left), dtype=bool)
    for ring in shape.rings:
        whole |= fill(ring - (left, top), bottom - top, right - left)
    return top, left, whole


def _decompressed(text: str | bytes) -> list[int]:
    """Decode COCO's text: five bits per character; from the fourth number on, the difference to the one before last."""
    lengths: list[int] = []
    value, shift = 0, 0
    for byte in text.encode("ascii") if isinstance(text, str) else text:
        bits = byte - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    return lengths
