"""Polygons around the regions of masks."""

import numpy as np
import pytest

from inceptionnext_lit.data.masks.polygons import fill
from inceptionnext_lit.predict.scenes.outlining import outlines


@pytest.mark.parametrize("density", [0.1, 0.5, 0.8, 0.97])
def test_filling_the_polygons_gives_the_mask_again(density: float) -> None:
    generator = np.random.default_rng(int(100 * density))
    for _ in range(40):
        height, width = generator.integers(1, 40, 2)
        mask = generator.random((height, width)) < density
        parts = [fill(ring, height, width) for ring in outlines(mask)]
        assert np.array_equal(np.sum([np.zeros_like(mask), *parts], axis=0), mask)  # each pixel once


def test_a_square_with_two_holes() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[2, 2] = mask[6, 5:7] = False
    [ring] = outlines(mask)
    assert ring.min() == 0
    assert ring.max() == 9
    assert np.array_equal(fill(ring, 9, 9), mask)


def test_straight_edges_have_no_corners_between() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:15, 10:25] = True
    [ring] = outlines(mask)
    assert len(ring) == 8  # its corners are cut
    assert list(outlines(np.zeros((4, 4), dtype=bool))) == []
