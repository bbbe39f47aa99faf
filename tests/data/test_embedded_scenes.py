"""The embedded scenes: the same in each call, with masks that fit."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.data.sources import scenes
from inceptionnext_lit.data.sources.scenes import CLASSES, PALETTE, SIDE, compose, unpack_scenes


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Fewer scenes, to write them quickly."""
    counts = {"train": 3, "val": 2}
    monkeypatch.setattr(scenes, "COUNTS", counts)
    return counts


def test_scenes_are_the_same_in_each_call(sample: Path) -> None:
    first, again = (list(itertools.islice(compose(sample, "train"), 5)) for _ in range(2))
    for (picture, mask), (other, other_mask) in zip(first, again, strict=True):
        np.testing.assert_array_equal(picture, other)
        np.testing.assert_array_equal(mask, other_mask)
    [validation] = itertools.islice(compose(sample, "val"), 1)
    assert not np.array_equal(first[0][0], validation[0])


def test_masks_have_the_classes_and_thin_ignored_edges(sample: Path) -> None:
    counts = np.zeros(256, np.int64)
    for picture, mask in itertools.islice(compose(sample, "val"), 60):
        assert picture.shape == (SIDE, SIDE, 3)
        assert mask.shape == (SIDE, SIDE)
        counts += np.bincount(mask.ravel(), minlength=256)
    shares = counts / counts.sum()
    assert shares[: len(CLASSES)].sum() + shares[255] == pytest.approx(1)
    assert 0.6 < shares[0] < 0.85
    assert (shares[1 : len(CLASSES)] > 0.02).all()
    assert 0.02 < shares[255] < 0.05


def test_the_folder(tmp_path: Path, few: dict[str, int]) -> None:
    folder = unpack_scenes(tmp_path)
    assert unpack_scenes(tmp_path) == folder
    for split, count in few.items():
        images, masks = (sorted((folder / kind / split).iterdir()) for kind in ("images", "masks"))
        assert [path.name for path in images] == [path.name for path in masks] == [f"{n:03}.png" for n in range(count)]
        picture, mask = next(compose(scenes.unpack_sample(tmp_path), split))
        with Image.open(images[0]) as image, Image.open(masks[0]) as indexed:
            assert indexed.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), picture)
            np.testing.assert_array_equal(np.asarray(indexed), mask)
            assert indexed.getpalette()[: 3 * len(PALETTE)] == [value for color in PALETTE for value in color]
    assert (folder / "classes.csv").read_text().splitlines()[:2] == ["name,r,g,b", "background,0,0,0"]
    assert not list(tmp_path.glob(".*"))
