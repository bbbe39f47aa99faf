from pathlib import Path

import pytest

from inceptionnext_lit.prepare.imagenet import Mode, prepare_imagenet
from inceptionnext_lit.prepare.record import read_record
from tests.prepare.synthetic_imagenet import LAYOUTS, ROW, Images, synthetic_images, tree


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


@pytest.mark.parametrize("mode", ["link", "copy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_becomes_the_same_tree_of_the_same_bytes(
    layout: str, mode: Mode, images: Images, tmp_path: Path
) -> None:
    source = LAYOUTS[layout](tmp_path / "source", images)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    record = prepare_imagenet("imagenet", source, tmp_path / "out", mode, num_workers=2, row=ROW)
    assert tree(tmp_path / "out") == images
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert record == read_record(tmp_path / "out")
    assert (record.splits, record.num_classes) == ({"train": 80, "val": 40}, 20)
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["dataset.json", "train", "val"]
