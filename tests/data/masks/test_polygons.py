"""Polygons and run lengths become the pixels whose centers they contain."""

import numpy as np
import pytest

from inceptionnext_lit.data.masks.polygons import Filled, Ring, Shape, decode_runs, fill, paint


def inside(ring: Ring, height: int, width: int) -> Filled:
    """The even-odd rule for the center of each pixel, edge by edge."""
    result = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    result[row, column] ^= True
    return result


@pytest.mark.parametrize("seed", range(20))
def test_pixels_with_their_centers_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ring = generator.uniform(-3, 18, (generator.integers(3, 12), 2)).round(2)
    assert np.array_equal(fill(ring, 14, 17), inside(ring, 14, 17))


def test_neighbors_share_no_pixel() -> None:
    left = np.array([[0, 0], [5.5, 0], [5.5, 8], [0, 8]])
    right = np.array([[5.5, 0], [10, 0], [10, 8], [5.5, 8]])
    total = fill(left, 8, 10).astype(int) + fill(right, 8, 10)
    assert (total == 1).all()


def test_the_smaller_object_is_on_top_whatever_the_order() -> None:
    square = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], dtype=float)
    shapes = [Shape(1, [square]), Shape(2, [square / 2]), Shape(3, [square / 4 + 6])]
    expected = np.ones((8, 8), dtype=np.uint8)
    expected[:4, :4], expected[6:, 6:] = 2, 3
    assert np.array_equal(paint(shapes, 8, 8), expected)
    assert np.array_equal(paint(shapes[::-1], 8, 8), expected)
    assert paint([Shape(1, [square - 20])], 8, 8).sum() == 0


def test_run_lengths() -> None:
    expected = np.array([[0, 1, 0], [1, 1, 0]], dtype=bool)
    assert np.array_equal(decode_runs([1, 3, 2], 2, 3), expected)
    assert np.array_equal(decode_runs("132", 2, 3), expected)
    with pytest.raises(ValueError, match="add up to 5 pixels instead of 2 × 3"):
        decode_runs([1, 4], 2, 3)


def test_compressed_run_lengths_of_pycocotools() -> None:
    """The text was written by pycocotools 2.0.11 for this mask."""
    mask = np.zeros((90, 70), dtype=bool)
    mask[10:60, 5:40] = True
    mask[20:30, 15:25] = False
    assert np.array_equal(decode_runs(TEXT, 90, 70), mask)


TEXT = (
    "\\>b1X1000000000000000000hNROd0n0\\OROd0n0\\OROd0n0\\OROd0n0\\OROd0n0\\OROd0"
    "n0\\OROd0n0\\OROd0n0\\OROd0n0\\OROd0n0d00000000000000000000000000000Rd2"
)
