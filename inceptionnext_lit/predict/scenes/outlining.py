"""Trace the objects of a mask as polygons, such that filling them gives the mask again."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""The corners of a polygon: x and y in pixels, (N, 2); the first pixel reaches from 0 to 1."""


def outlines(inside: NDArray[np.bool_]) -> Iterator[Ring]:
    """Yield a polygon for each connected region of a mask.

    A pixel belongs to a polygon if its center is inside. A hole is joined to the outline by a seam of no width, since
    the polygons of COCO do not have holes.

    Args:
        inside: Which pixels belong to the regions, (H, W).
    """
    from contourpy import FillType, contour_generator

    height, width = inside.shape
    framed = np.zeros((height + 2, width + 2), dtype=np.float64)
    framed[1:-1, 1:-1] = inside
    # the value of a pixel is at its center
    generator = contour_generator(
        x=np.arange(width + 2) - 0.5, y=np.arange(height + 2) - 0.5, z=framed, fill_type=FillType.OuterOffset
    )
    found: Any = generator.filled(0.5, np.inf)
    for corners, starts in zip(*found, strict=True):
        rings = [np.asarray(corners[a : b - 1]) for a, b in pairwise(starts.tolist())]  # closed
        yield _joined([_simplified(ring) for ring in rings])


def _simplified(ring: Ring) -> Ring:
    """Leave out corners on a straight line."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    corners: Ring = ring[turns != 0]
    return corners


def _joined(rings: list[Ring]) -> Ring:
    """Join the holes of a region to its outline, each at the nearest corners."""
    outline, *holes = rings
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].min())):
        start = int(hole[:, 0].argmin())
        place = int(((outline - hole[start]) ** 2).sum(axis=1).argmin())
        there = np.concatenate([hole[start:], hole[: start + 1]])
        outline = np.concatenate([outline[: place + 1], there, outline[place:]])
    return outline
