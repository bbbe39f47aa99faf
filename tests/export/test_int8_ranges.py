"""Ranges of activations."""

import numpy as np
import pytest

from inceptionnext_lit.export.int8.ranges import Histogram, bounds


def best(values: np.ndarray) -> tuple[float, float]:
    found = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values, 3):
        found.add(part)
    return found.best_range()


def error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    rounded = np.clip(np.round((values - low) / step), 0, 255) * step + low
    return float(((rounded - values) ** 2).mean())


def test_all_of_even_values_are_kept() -> None:
    assert best(np.linspace(-1, 3, 10001)) == pytest.approx((-1, 3), abs=0.02)


def test_outliers_are_clipped_as_far_as_it_pays() -> None:
    values = np.append(np.random.default_rng(0).normal(size=200_000), [40.0])
    low, high = best(values)
    assert low < -3
    assert 15 < high < 38
    others = [error(values, low, end) for end in (6.0, 12.0, 40.0)]
    assert error(values, low, high) < 0.98 * min(others)


@pytest.mark.parametrize(("values", "expected"), [([2.0, 5.0], (0, 5)), ([-4.0, -3.0], (-4, 0)), ([7.0, 7.0], (0, 7))])
def test_zero_is_inside(values: list[float], expected: tuple[float, float]) -> None:
    assert best(np.array(values * 50)) == pytest.approx(expected)


def test_bounds() -> None:
    batches = [{"a": np.array([1.0, 3.0], np.float32)}, {"a": np.array([-2.0], np.float32)}]
    assert bounds(batches) == {"a": (-2.0, 3.0)}
