"""The same command after the source was repaired."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet import Mode
from inceptionnext_lit.prepare.imagenet.target import Target
from inceptionnext_lit.prepare.imagenet.variants import Counts, Variant
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from inceptionnext_lit.prepare.record import DatasetRecord
from tests.prepare.synthetic_imagenet import (
    CLASSES,
    DEVKIT,
    LAYOUTS,
    ROW,
    Images,
    class_tars,
    split_of,
    synthetic_images,
    tar_of,
    tree,
    write,
    write_kaggle,
    write_tars,
)

DATA = Path("ILSVRC", "Data", "CLS-LOC")
TEN = CLASSES[3:13]
ROWS = {
    "imagenet": ROW,
    "imagenet-100": Variant("imagenet-100", "ImageNet-100", TEN, Counts(40, 20), CLASSES),
    "imagenette": Variant("imagenette", "Imagenette", TEN, Counts(30, 30), CLASSES, Counts(40, 20)),
}
Prepare = Callable[..., DatasetRecord]


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", ROWS.__getitem__)

    def run(name: str = "imagenet", mode: Mode = "link", subset: tuple[int, int] | None = None) -> DatasetRecord:
        choices = Choices(source=tmp_path / "source", mode=mode, subset=subset, num_workers=2)
        return prepare_dataset(name, tmp_path / "out", choices)

    return run


def without(images: Images, *places: str) -> Images:
    return {place: content for place, content in images.items() if place not in places}


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_image_is_found_before_anything_is_moved(
    split: str, images: Images, tmp_path: Path, prepare: Prepare
) -> None:
    source = write_kaggle(tmp_path / "source", images)
    path = next(path for path in (source / DATA / split).rglob("*.JPEG"))
    content, before = path.read_bytes(), files_below(source)
    path.write_bytes(b"")
    named = path.relative_to(source / DATA)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"1 image is empty or cannot be found \({named}\)\. Add what is missing"):
            prepare(mode="move")
        assert files_below(source) == before
        assert not list((tmp_path / "out").rglob("*.JPEG"))
    path.write_bytes(content)
    assert prepare(mode="move").splits == {"train": 80, "val": 40}
    assert tree(tmp_path / "out") == images


def test_an_empty_image_that_is_not_taken_does_not_matter(images: Images, tmp_path: Path, prepare: Prepare) -> None:
    source = write_kaggle(tmp_path / "source", images)
    prepare(subset=(5, 3))
    taken = {place.split("/")[2] for place in tree(tmp_path / "out")}
    shutil.rmtree(tmp_path / "out")
    for path in (source / DATA).rglob("*.JPEG"):
        if path.name not in taken:
            path.write_bytes(b"")
    assert prepare(mode="move", subset=(5, 3)).splits == {"train": 15, "val": 10}


@pytest.mark.parametrize("layout", ["kaggle", "flat_val"])
def test_a_stopped_move_with_a_source_that_lacks_an_image_says_where_the_others_are(
    layout: str, images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = LAYOUTS[layout](tmp_path / "source", images), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Target, "put_folder", stop_at(CLASSES[-1]))
        with pytest.raises(KeyboardInterrupt):
            prepare(mode="move")
    lost = next(source.rglob(f"{CLASSES[-1]}_*.JPEG"))
    content = lost.read_bytes()
    lost.unlink()
    where = rf"The images that were moved already are in {output}/\.unfinished; leave them there for the same command\."
    for _ in range(2):
        with pytest.raises(UserError, match=rf"train has 79 of 80 images .* the same command again\. {where}"):
            prepare(mode="move")
        assert (output / ".prepare.json").is_file()
    lost.write_bytes(content)
    prepare(mode="move")
    assert tree(output) == images


@pytest.mark.parametrize("layout", ["kaggle", "flat_val"])
def test_an_image_that_was_moved_empty_is_replaced_by_a_copy_in_the_source(
    layout: str, images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = LAYOUTS[layout](tmp_path / "source", images), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Target, "put_folder", stop_at(CLASSES[-1]))
        with pytest.raises(KeyboardInterrupt):
            prepare(mode="move")
    split = "val" if layout == "flat_val" else "train"
    moved = next((output / ".unfinished" / split).rglob("*.JPEG"))
    place = moved.relative_to(output / ".unfinished")
    moved.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match=rf"1 image is empty or cannot be found \({place}\).* are in {output}"):
            prepare(mode="move")
    data = source / DATA if layout == "kaggle" else source
    write(data / (Path("val", place.name) if split == "val" else place), images[str(place)])
    prepare(mode="move")
    assert tree(output) == images


def stop_at(wnid: str) -> Callable[[Target, str, str], bool]:
    put_folder = Target.put_folder

    def put(self: Target, place: str, source: str) -> bool:
        if place.endswith(wnid):
            raise KeyboardInterrupt
        return put_folder(self, place, source)

    return put


def test_a_full_disk_says_where_the_moved_images_are(
    images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kaggle(tmp_path / "source", images)
    put_file, calls = Target.put_file, []

    def full(self: Target, place: str, source: str) -> None:
        calls.append(place)
        if len(calls) > 20:
            raise OSError(28, "No space left on device", place)
        put_file(self, place, source)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "put_file", full)
        where = f"the images that were moved already are in {tmp_path}/out/.unfinished. What is finished is kept"
        with pytest.raises(UserError, match=re.escape(f"No space left on device; {where}")):
            prepare(mode="move")
    prepare(mode="move")
    assert tree(tmp_path / "out") == images


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["link", "copy"])
def test_many_missing_images_are_added(
    layout: str, mode: Mode, images: Images, tmp_path: Path, prepare: Prepare
) -> None:
    lost = [place for place in images if place.startswith("val/")][:15]
    LAYOUTS[layout](tmp_path / "source", without(images, *lost))
    labels = {"tars": f"{DEVKIT}.tar.gz", "kaggle": "LOC_val_solution.csv", "flat_val": f"{DEVKIT}/data/*.txt"}
    for path in LAYOUTS[layout](tmp_path / "whole", images).glob(labels.get(layout, "nothing")):
        shutil.copy(path, tmp_path / "source" / path.relative_to(tmp_path / "whole"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"val has .*all are listed in .*missing\.txt\. Add what is missing"):
            prepare(mode=mode)
        assert (tmp_path / "out" / "missing.txt").is_file()
    shutil.rmtree(tmp_path / "source")
    LAYOUTS[layout](tmp_path / "source", images)
    assert prepare(mode=mode).splits == {"train": 80, "val": 40}
    assert tree(tmp_path / "out") == images
    assert not (tmp_path / "out" / "missing.txt").exists()


def test_a_shorter_list_of_what_is_missing_replaces_the_file(images: Images, tmp_path: Path, prepare: Prepare) -> None:
    lost = sorted((write_kaggle(tmp_path / "source", images) / DATA / "val").iterdir())[:15]
    contents = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    with pytest.raises(UserError, match="25 of 40"):
        prepare()
    for path, content in list(zip(lost, contents, strict=True))[1:]:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"39 of 40 images \(without {lost[0].name}\)\. Add"):
        prepare()
    assert not (tmp_path / "out" / "missing.txt").exists()


@pytest.mark.parametrize(("name", "subset"), [("imagenet", (20, 3)), ("imagenet-100", None), ("imagenette", None)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_that_were_missing_are_added(
    layout: str, name: str, subset: tuple[int, int] | None, images: Images, tmp_path: Path, prepare: Prepare
) -> None:
    lost = [place for place in images if place.startswith(tuple(f"train/{wnid}" for wnid in TEN[:2]))]
    LAYOUTS[layout](tmp_path / "source", without(images, *lost))
    for _ in range(2):
        with pytest.raises(UserError, match=r"train has \d+ of \d+ classes .*Add what is missing"):
            prepare(name, subset=subset)
    shutil.rmtree(tmp_path / "source")
    LAYOUTS[layout](tmp_path / "source", images)
    classes = ROWS[name].classes
    assert prepare(name, subset=subset).splits == {
        "train": len(classes) * (subset[1] if subset else 4),
        "val": len(classes) * 2,
    }


def test_finished_copies_are_used_again_on_a_full_disk(
    images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = next(place for place in images if place.startswith(f"train/{CLASSES[0]}/"))
    write_tars(tmp_path / "source", images)
    write(tmp_path / "source" / "ILSVRC2012_img_train.tar", tar_of(class_tars(without(images, lost))))
    for _ in range(2):
        with pytest.raises(UserError, match=r"79 of 80 .*, or take what is there with --subset 20,4 --overwrite\."):
            prepare()
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.JPEG")}
    assert len(written) == 119
    write_tars(tmp_path / "source", images)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 64 * 2**20})())
    prepare()
    assert tree(tmp_path / "out") == images
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.JPEG")}
    assert {name: after[name] for name in written} == written


def test_a_class_that_was_linked_as_a_whole_is_linked_again_by_files(
    images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_kaggle(tmp_path / "source", images)
    with monkeypatch.context() as patch:
        patch.setattr(Target, "put_folder", stop_at(CLASSES[-1]))
        with pytest.raises(KeyboardInterrupt):
            prepare()
    (tmp_path / "out" / ".unfinished" / "done.txt").unlink()
    renamed = sorted((source / DATA / "train" / CLASSES[0]).iterdir())[0]
    renamed.rename(renamed.with_suffix(".jpg"))
    before = files_below(source)
    prepare()
    assert tree(tmp_path / "out") == images
    assert files_below(source) == before


def test_a_link_to_a_file_that_was_renamed_is_replaced(
    images: Images, tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = LAYOUTS["flat_val"](tmp_path / "source", images)
    with monkeypatch.context() as patch:
        patch.setattr("inceptionnext_lit.prepare.imagenet.preparing.take_inventory", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare()
    (tmp_path / "out" / ".unfinished" / "done.txt").unlink()
    name = split_of(images, "val").popitem()[0][1]
    os.rename(source / "val" / name, source / "val" / f"{name[:-5]}.jpg")
    prepare()
    assert tree(tmp_path / "out") == images


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt
