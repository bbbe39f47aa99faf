"""Copies of a picture: how they are found, and that no split divides them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inceptionnext_lit.data.sources.sample_table import Sample, Samples
from inceptionnext_lit.data.sources.splits import FolderSource
from inceptionnext_lit.data.splitting import copies
from inceptionnext_lit.data.splitting.copies import find_copies
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.splitting.selection import fold, hold_back


def write(root: Path, **contents: str) -> Path:
    """Write files by ``class/name``, each with some content."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content * 3000)  # beyond the end that is read first
    return root


def groups(root: Path) -> list[list[str]]:
    images = FolderSource(root).samples("train", None)
    assert images is not None
    heads = find_copies(images)
    if heads is None:
        return []
    names = [os.path.relpath(path, root) for path in images.paths]
    found = [[names[n] for n in np.flatnonzero(heads == head)] for head in np.unique(heads)]
    return [group for group in found if len(group) > 1]


def test_the_same_content(tmp_path: Path) -> None:
    write(tmp_path, **{"a/1.jpg": "x1", "a/deep/other.png": "x1", "a/2.jpg": "y1", "b/1.jpg": "z1", "b/9.jpg": "x1"})
    (tmp_path / "a/3.jpg").write_text("p" + "x1" * 3000)
    (tmp_path / "a/4.jpg").write_text("q" + "x1" * 3000)  # of the same size and the same end
    assert groups(tmp_path) == [["a/1.jpg", "a/deep/other.png", "b/9.jpg"]]  # under two labels too
    write(tmp_path, **{"a/4.jpg": "y1"})
    (tmp_path / "b/empty.jpg").touch()
    (tmp_path / "b/void.jpg").touch()
    assert groups(tmp_path) == [["a/1.jpg", "a/deep/other.png", "b/9.jpg"], ["a/2.jpg", "a/4.jpg"]]


@pytest.mark.parametrize(
    "name",
    ["p (1).jpg", "p(2).jpg", "p_copy.jpg", "p copy 2.jpg", "p - Copy (3).jpg", "p - Kopie.jpg", "p-150x150.jpg",
     "p_1024x768.jpg", "p@2x.jpg", "p-scaled.jpg", "p.png", "p_copy (1).jpg"],
)  # fmt: skip
def test_the_same_name(tmp_path: Path, name: str) -> None:
    write(
        tmp_path, **{"a/p.jpg": "1", f"a/{name}": "2", "a/pq.jpg": "3", "a/p2.jpg": "4", "b/p.jpg": "5", "b/q.jpg": "6"}
    )
    assert [set(group) for group in groups(tmp_path)] == [{"a/p.jpg", f"a/{name}"}]


def test_numbered_images_are_not_copies(tmp_path: Path) -> None:
    write(tmp_path, **{f"a/photo ({n}).jpg": str(n) for n in range(8)}, **{"b/1.jpg": "u", "b/2.jpg": "v"})
    assert groups(tmp_path) == []
    write(tmp_path, **{f"a/p ({n}).jpg": f"{n}" for n in range(10, 30)}, **{"a/p.jpg": "w"})
    assert groups(tmp_path) == []


def copied(root: Path) -> tuple[Samples, np.ndarray]:
    """Return two classes of 40 images, in which every fourth and the next one are copies."""
    images = Samples.of(Sample(str(root / f"{'ab'[n // 40]}/{n}.jpg"), n // 40) for n in range(80))
    heads = np.arange(80)
    heads[1::4] = heads[0::4]
    return images, heads


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.95])
def test_what_is_held_back_has_no_copy_in_training(tmp_path: Path, fraction: float) -> None:
    images, heads = copied(tmp_path)
    alone = hold_back(images, tmp_path, fraction, 0, ["a", "b"])
    places = {path: head for path, head in zip(images.paths, heads.tolist(), strict=True)}
    train, val = hold_back(images, tmp_path, fraction, 0, ["a", "b"], heads)
    assert len(train) + len(val) == 80
    assert not {places[p] for p in train.paths} & {places[p] for p in val.paths}
    for label in (0, 1):
        assert abs((val.labels == label).sum() - (alone[1].labels == label).sum()) <= 1
    others = hold_back(images, tmp_path, fraction, 0, ["a", "b"], np.where(heads < 40, heads, np.arange(80)))
    assert others[1].take(others[1].labels == 1) == alone[1].take(alone[1].labels == 1)  # a class without copies


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_picture_under_two_labels_is_on_one_side(tmp_path: Path, fraction: float, seed: int) -> None:
    images = Samples.of(Sample(str(tmp_path / f"{'ab'[n // 20]}/{n}.jpg"), n // 20) for n in range(40))
    heads = np.arange(40)
    heads[20:28] = heads[:8]
    parts = hold_back(images, tmp_path, fraction, seed, ["a", "b"], heads)
    places = {path: head for path, head in zip(images.paths, heads.tolist(), strict=True)}
    train, val = ({places[path] for path in part.paths} for part in parts)
    assert not train & val
    for part in parts:
        assert set(part.labels.tolist()) == {0, 1}
    for number in range(4):
        train, val = (
            {places[path] for path in part.paths} for part in fold(images, tmp_path, number, 4, seed, ["a", "b"], heads)
        )
        assert not train & val


@pytest.mark.parametrize(
    ("bound", "expected", "words"),
    [
        (3, [["a/1.jpg", "a/2.jpg"]], "only within a class"),
        (1, [], "only by their names"),
    ],
)
def test_an_incomplete_search_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int, expected: list[list[str]], words: str
) -> None:
    write(
        tmp_path, **{"a/1.jpg": "x", "a/2.jpg": "x", "b/3.jpg": "y", "b/4.jpg": "zz", "c/5.jpg": "w", "c/6.jpg": "vvv"}
    )
    monkeypatch.setattr(copies, "_LOOKED_INTO", bound)
    with pytest.warns(UserWarning, match=f"^Among 6 images, copies were searched {words}, so training"):
        assert groups(tmp_path) == expected


def test_a_fold_has_no_copy_in_another(tmp_path: Path) -> None:
    images, heads = copied(tmp_path)
    places = {path: head for path, head in zip(images.paths, heads.tolist(), strict=True)}
    rounds = [fold(images, tmp_path, number, 5, 0, ["a", "b"], heads) for number in range(5)]
    assert sorted(path for _, val in rounds for path in val.paths) == sorted(images.paths)
    for train, val in rounds:
        assert not {places[p] for p in train.paths} & {places[p] for p in val.paths}
        assert 10 <= len(val) <= 22


def test_a_class_of_only_copies_is_divided_with_a_warning(tmp_path: Path) -> None:
    images, _ = copied(tmp_path)
    heads = np.where(np.arange(80) < 40, 0, np.arange(80))
    with pytest.warns(UserWarning, match=r"^All images of the class a are copies of one another, .* nevertheless\.$"):
        train, val = hold_back(images, tmp_path, 0.2, 0, ["a", "b"], heads)
    assert np.bincount(val.labels).tolist() == [8, 8]
    assert len(train) == 64


def test_groups_that_share_a_copy_stay_together(tmp_path: Path) -> None:
    images = Samples.of(Sample(str(tmp_path / f"{n}.jpg"), n % 2, group=f"p{n // 4}") for n in range(80))
    heads = np.arange(80)
    heads[6] = 0  # p1 has a picture of p0
    train, val = hold_back(images, tmp_path, 0.2, 0, ["a", "b"], heads)
    sides = [{sample.group for sample in part} & {"p0", "p1"} for part in (train, val)]
    assert sorted(map(len, sides)) == [0, 2]


@pytest.mark.slow
def test_from_files_to_split(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        f"{name}/{n}{mark}.jpg": f"{name}{n}" for name in "ab" for n in range(20) for mark in ("", "x")
    }
    source = FolderSource(write(tmp_path, **files))
    train, val = SplitRules(0.25, 0, None, 0, None).training(source, None)
    content = [{Path(path).read_text()[:4] for path in part.paths} for part in (train, val)]
    assert not content[0] & content[1]
    assert (len(train), len(val)) == (60, 20)
