"""Held-back samples, folds and few-shot subsets."""

import os
from collections import Counter
from pathlib import Path

import pytest

from inceptionnext_lit.data.sources.sample_table import Sample, labels_of
from inceptionnext_lit.data.splitting.selection import few_shot, fold, hold_back
from inceptionnext_lit.errors import UserError

NAMES = list("abcd")


def samples_of(root: Path, **counts: int) -> list[Sample]:
    return [Sample(str(root / name / f"{i}.jpg"), n) for n, (name, k) in enumerate(counts.items()) for i in range(k)]


def relative(samples: list[Sample], root: Path) -> list[str]:
    return [os.path.relpath(sample.path, root) for sample in samples]


def counts(samples: list[Sample]) -> dict[int, int]:
    return dict(Counter(label for sample in samples for label in labels_of(sample)))


def test_hold_back_is_stratified(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, a=50, b=10, c=2)
    train, val = hold_back(samples, tmp_path, 0.2, 0, NAMES)
    assert (counts(train), counts(val)) == ({0: 40, 1: 8, 2: 1}, {0: 10, 1: 2, 2: 1})
    assert sorted(train + val) == sorted(samples)
    assert val == [sample for sample in samples if sample in val]


def test_hold_back_depends_on_the_seed_and_relative_paths_only(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    val = relative(hold_back(samples_of(here, a=30, b=30), here, 0.3, 7, NAMES)[1], here)
    moved = hold_back(samples_of(there, a=30, b=30)[::-1], there, 0.3, 7, NAMES)[1]
    assert relative(moved, there)[::-1] == val
    other = relative(hold_back(samples_of(here, a=30, b=30), here, 0.3, 8, NAMES)[1], here)
    assert other != val
    assert val[:5] == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/8.jpg", "a/10.jpg"]  # the same on every machine


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_hold_back_leaves_each_part_one(tmp_path: Path, fraction: float) -> None:
    train, val = hold_back(samples_of(tmp_path, a=3, b=2), tmp_path, fraction, 0, NAMES)
    assert counts(train).keys() == counts(val).keys() == {0, 1}


def test_classes_of_a_single_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^The class b has a single image, of which none can be held back for valid"):
        hold_back(samples_of(tmp_path, a=3, b=1), tmp_path, 0.2, 0, NAMES)
    with pytest.raises(UserError, match=r"^The classes a, b have a single image, of which no 5 folds can be made"):
        fold(samples_of(tmp_path, a=1, b=1), tmp_path, 0, 5, 0, NAMES)


def test_folds_are_disjoint_complete_and_stratified(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, a=23, b=11, c=3)
    rounds = [fold(samples, tmp_path, number, 5, 0, NAMES) for number in range(5)]
    assert sorted(sample for _, val in rounds for sample in val) == sorted(samples)
    for train, val in rounds:
        assert sorted(train + val) == sorted(samples)
        assert counts(val)[0] in (4, 5)
        assert counts(val)[1] in (2, 3)
        assert len(val) in (7, 8)
    assert rounds[0][1] != fold(samples, tmp_path, 0, 5, 1, NAMES)[1]


def grouped(root: Path) -> list[Sample]:
    """Return 60 images of two classes in 12 groups, with unequal shares of the classes."""
    return [Sample(str(root / f"{n}.jpg"), int(n % 5 > 2), group=f"person {n % 12}") for n in range(60)]


@pytest.mark.parametrize("fraction", [0.25, 0.75])
def test_groups_stay_whole(tmp_path: Path, fraction: float) -> None:
    samples = grouped(tmp_path)
    train, val = hold_back(samples, tmp_path, fraction, 0, NAMES)
    assert not {sample.group for sample in train} & {sample.group for sample in val}
    assert len(val) == 60 * fraction
    assert hold_back(samples[::-1], tmp_path, fraction, 0, NAMES)[1][::-1] == val
    rounds = [fold(samples, tmp_path, number, 4, 0, NAMES) for number in range(4)]
    assert sorted(sample for _, part in rounds for sample in part) == sorted(samples)
    for train, val in rounds:
        assert not {sample.group for sample in train} & {sample.group for sample in val}


def test_groups_that_cannot_be_divided(tmp_path: Path) -> None:
    two = [sample._replace(group=f"p{n % 2}") for n, sample in enumerate(grouped(tmp_path))]
    with pytest.raises(UserError, match=r"^5 folds need at least 5 groups of images, and there are 2; choose"):
        fold(two, tmp_path, 0, 5, 0, NAMES)
    by_class = [sample._replace(group=f"p{sample.label}") for sample in grouped(tmp_path)]
    with pytest.raises(UserError, match=r"^All images of the class [ab] are in groups of the validation part"):
        hold_back(by_class, tmp_path, 0.5, 0, NAMES)


def test_several_labels_count_for_the_rarest(tmp_path: Path) -> None:
    samples = [Sample(str(tmp_path / f"{n}.jpg"), (0, 1) if n < 4 else (0,) if n < 24 else ()) for n in range(30)]
    train, val = hold_back(samples, tmp_path, 0.25, 0, NAMES)
    assert counts(val) == {0: 1 + 5, 1: 1}
    assert sum(sample.label == () for sample in val) == 2
    assert len(train) + len(val) == 30


def test_few_shot(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, a=50, b=20, c=10)
    chosen = few_shot(samples, tmp_path, 10, 0, NAMES[:3])
    assert counts(chosen) == {0: 10, 1: 10, 2: 10}
    assert chosen == [sample for sample in samples if sample in chosen]
    assert few_shot(samples[::-1], tmp_path, 10, 0, NAMES[:3]) == chosen[::-1]
    assert few_shot(samples, tmp_path, 10, 1, NAMES[:3]) != chosen
    assert set(few_shot(samples, tmp_path, 5, 0, NAMES[:3])) < set(chosen)
    with pytest.warns(UserWarning, match=r"^Classes with fewer than 30 training images: b \(20\), c \(10\)\.$"):
        assert counts(few_shot(samples, tmp_path, 30, 0, NAMES[:3])) == {0: 30, 1: 20, 2: 10}


def test_few_shot_of_several_labels(tmp_path: Path) -> None:
    samples = [Sample(str(tmp_path / f"{n}.jpg"), (0, 1) if n % 3 else (0,)) for n in range(40)]
    found = counts(few_shot(samples, tmp_path, 6, 0, NAMES[:2]))
    assert found[1] == 6
    assert found[0] >= 6
