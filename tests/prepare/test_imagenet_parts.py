"""Subsets of ImageNet, and the well-known parts of it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from inceptionnext_lit.data.class_words import class_words, imagenet_classes
from inceptionnext_lit.data.public import DATASETS
from inceptionnext_lit.data.sources.imagenet_names import official_name
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet import prepare_imagenet
from inceptionnext_lit.prepare.imagenet.selection import Subset
from inceptionnext_lit.prepare.imagenet.variants import Counts, Variant, variant
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from tests.prepare.synthetic_imagenet import (
    CLASSES,
    LAYOUTS,
    ROW,
    Images,
    split_of,
    synthetic_images,
    tar_of,
    tree,
    write,
    write_kaggle,
)

TEN = CLASSES[3:13]
NETTE = Variant("imagenette", "Imagenette", TEN, Counts(30, 30), CLASSES, Counts(40, 20))


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_is_the_same_from_each_layout(layout: str, images: Images, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "source", images)
    record = prepare_imagenet("imagenet", source, tmp_path / "out", subset=(5, 3), num_workers=2, row=ROW)
    classes = sorted(sorted(CLASSES, key=digest)[:5])
    names = {wnid: sorted((n for w, n in split_of(images, "train") if w == wnid), key=digest)[:3] for wnid in classes}
    chosen = {f"train/{wnid}/{name}" for wnid in classes for name in names[wnid]}
    chosen |= {place for place in images if place.startswith("val/") and place.split("/")[1] in classes}
    assert tree(tmp_path / "out") == {place: images[place] for place in chosen}
    assert (record.splits, record.num_classes) == ({"train": 15, "val": 10}, 5)
    assert record.notes == ["A subset: 5 classes, at most 3 training images of each."]


def test_a_larger_subset_contains_a_smaller_one() -> None:
    small, large = (Subset(number, 1).choose_classes(imagenet_classes()) for number in (10, 100))
    assert set(small) < set(large)
    assert len(large) == 100
    assert small[:3] == ("n01784675", "n02087046", "n02091467")


def test_a_subset_of_more_images_than_there_are_says_so(images: Images, tmp_path: Path) -> None:
    source = write_kaggle(tmp_path / "source", images)
    next((source / "ILSVRC/Data/CLS-LOC/train" / CLASSES[0]).iterdir()).unlink()
    record = prepare_imagenet("imagenet", source, tmp_path / "out", subset=(20, 4), row=ROW)
    assert record.splits == {"train": 79, "val": 40}
    assert record.notes[0] == f"1 class has fewer than 4 training images: {CLASSES[0]}."


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_with_missing_validation_images_says_so(layout: str, images: Images, tmp_path: Path) -> None:
    lost = next(place for place in images if place.endswith("ILSVRC2012_val_00000040.JPEG"))
    source = LAYOUTS[layout](tmp_path / "source", {place: x for place, x in images.items() if place != lost})
    record = prepare_imagenet("imagenet", source, tmp_path / "out", subset=(20, 4), row=ROW)
    assert record.splits == {"train": 80, "val": 39}
    assert record.notes[0] == f"1 class has fewer than 2 validation images: {lost.split('/')[1]}."


def test_a_subset_of_fastais_split_with_missing_validation_images(images: Images, tmp_path: Path) -> None:
    files = fastai(images)
    del files[next(place for place in files if f"/val/{TEN[0]}/" in place)]
    for place, content in files.items():
        write(tmp_path / "source" / place, content)
    record = prepare_imagenet("imagenette", tmp_path / "source", tmp_path / "out", subset=(10, 3), row=NETTE)
    assert record.notes[-2] == f"1 class has fewer than 3 validation images: {TEN[0]}."


@pytest.mark.parametrize(("subset", "number"), [((21, 1), "21"), ((1, 5), "1")])
def test_subsets_that_cannot_be(subset: tuple[int, int], number: str, images: Images, tmp_path: Path) -> None:
    source = write_kaggle(tmp_path / "source", images)
    with pytest.raises(UserError, match=rf"--subset asks for {number} classes; it must be 2 to 20\."):
        prepare_imagenet("imagenet", source, tmp_path / "out", subset=subset, row=ROW)


def test_a_moved_subset_leaves_the_rest(images: Images, tmp_path: Path) -> None:
    source = write_kaggle(tmp_path / "source", images)
    prepare_imagenet("imagenet", source, tmp_path / "out", "move", subset=(5, 3), row=ROW)
    moved = tree(tmp_path / "out")
    assert len(moved) == 25
    left = {path.name for path in source.rglob("*.JPEG") if "test" not in path.parts}
    assert left == {place.split("/")[-1] for place in images} - {place.split("/")[-1] for place in moved}


@pytest.mark.parametrize(("subset", "message"), [((4, 3), "with --subset 5,3"), (None, "with --subset 5,3")])
def test_another_subset_is_not_taken_for_the_finished_one(
    subset: tuple[int, int] | None, message: str, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", lambda name: ROW)
    source, output = write_kaggle(tmp_path / "source", images), tmp_path / "out"
    record = prepare_dataset("imagenet", output, Choices(source=source, subset=(5, 3)))
    assert prepare_dataset("imagenet", output, Choices(source=source, subset=(5, 3))) == record
    with pytest.raises(UserError, match=f"was prepared {message}, and not"):
        prepare_dataset("imagenet", output, Choices(source=source, subset=subset))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ten_classes_of_imagenet(layout: str, images: Images, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "source", images)
    record = prepare_imagenet("imagenette", source, tmp_path / "out", num_workers=2, row=NETTE)
    assert tree(tmp_path / "out") == {place: x for place, x in images.items() if place.split("/")[1] in TEN}
    assert record.notes[-1].startswith("It has ImageNet's own split, as version 1")


def fastai(images: Images) -> dict[str, bytes]:
    """Return the files of an archive with another split of the ten classes' images: 30 and 30."""
    files = {"imagenette2/noisy_imagenette.csv": b"path,noisy_labels_0\n", "imagenette2/._train": b"x"}
    for wnid in TEN:
        mine = [(name, content) for place, content in images.items() if (name := place.split("/"))[1] == wnid]
        for number, (name, content) in enumerate(mine):
            files[f"imagenette2/{'train' if number < 3 else 'val'}/{wnid}/{name[2]}"] = content
    return files


def test_the_archive_of_fastai(images: Images, tmp_path: Path) -> None:
    write(tmp_path / "imagenette2-160.tgz", tar_of(fastai(images), "w:gz"))
    record = prepare_imagenet("imagenette", tmp_path / "imagenette2-160.tgz", tmp_path / "out", row=NETTE)
    expected = {place.partition("/")[2]: x for place, x in fastai(images).items() if place.endswith(".JPEG")}
    assert tree(tmp_path / "out") == expected
    assert record.splits == {"train": 30, "val": 30}
    assert record.notes == []
    assert (tmp_path / "out" / "noisy_imagenette.csv").read_bytes() == b"path,noisy_labels_0\n"


@pytest.mark.parametrize("named", ["", "imagenette2"])
def test_the_unpacked_archive_of_fastai(named: str, images: Images, tmp_path: Path) -> None:
    for place, content in fastai(images).items():
        write(tmp_path / "source" / place, content)
    record = prepare_imagenet("imagenette", tmp_path / "source" / named, tmp_path / "out", row=NETTE)
    assert record.splits == {"train": 30, "val": 30}
    assert (tmp_path / "out" / "train" / TEN[0]).is_symlink()
    assert (tmp_path / "out" / "noisy_imagenette.csv").is_file()


def test_the_archive_in_its_folder(images: Images, tmp_path: Path) -> None:
    write(tmp_path / "source" / "imagenette2.tgz", tar_of(fastai(images), "w:gz"))
    record = prepare_imagenet("imagenette", tmp_path / "source", tmp_path / "out", subset=(4, 2), row=NETTE)
    assert record.splits == {"train": 8, "val": 12}


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_truncated_archive_of_fastai(share: float, images: Images, tmp_path: Path) -> None:
    whole = tar_of(fastai(images), "w:gz")
    write(tmp_path / "imagenette2.tgz", whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"imagenette2\.tgz is broken"):
        prepare_imagenet("imagenette", tmp_path / "imagenette2.tgz", tmp_path / "out", row=NETTE)


def test_imagewoof_is_not_imagenette(images: Images, tmp_path: Path) -> None:
    write(tmp_path / "imagenette2.tgz", tar_of(fastai(images), "w:gz"))
    woof = replace(NETTE, name="imagewoof", title="Imagewoof", classes=CLASSES[:3] + CLASSES[13:])
    with pytest.raises(UserError, match="train has 0 of 10 classes"):
        prepare_imagenet("imagewoof", tmp_path / "imagenette2.tgz", tmp_path / "out", row=woof)


def test_the_rows_have_the_classes_of_their_lists() -> None:
    assert variant("imagenet").classes == variant("imagenet").known == imagenet_classes()
    for name in ("imagenet-100", "imagenette", "imagewoof"):
        row = variant(name)
        assert len(row.classes) == len(set(row.classes)) == DATASETS[name].num_classes
        assert set(row.classes) < set(row.known)
        assert list(row.classes) == sorted(row.classes)


def test_fastais_classes_are_those_of_its_page() -> None:
    words = {
        name: [str(class_words(wnid)).split(",")[0] for wnid in variant(name).classes]
        for name in DATASETS
        if "ette" in name or "woof" in name
    }
    assert sorted(words["imagenette"]) == [
        "English springer", "French horn", "cassette player", "chain saw", "church", "garbage truck", "gas pump",
        "golf ball", "parachute", "tench",
    ]  # fmt: skip
    assert sorted(words["imagewoof"]) == [
        "Australian terrier", "Border terrier", "English foxhound", "Old English sheepdog", "Rhodesian ridgeback",
        "Samoyed", "Shih-Tzu", "beagle", "dingo", "golden retriever",
    ]  # fmt: skip
    for name in words:  # both versions have the same images
        row = variant(name)
        assert row.from_imagenet is not None
        assert sum(row.counts) == sum(row.from_imagenet)


@pytest.mark.parametrize(
    ("given", "name", "wnid"),
    [
        ("n01440764_10026.JPEG", "n01440764_10026.JPEG", "n01440764"),
        ("n01440764_10026_n01440764.JPEG", "n01440764_10026.JPEG", "n01440764"),
        ("ILSVRC2012_val_00000001_n01751748.jpeg", "ILSVRC2012_val_00000001.JPEG", "n01751748"),
        ("ILSVRC2012_val_00000001.jpg", "ILSVRC2012_val_00000001.JPEG", None),
    ],
)
def test_official_names(given: str, name: str, wnid: str | None) -> None:
    assert official_name(given) == (name, wnid)


@pytest.mark.parametrize(
    "given",
    ["n01440764_1_n01443537.JPEG", "n01440764.JPEG", "cat.jpg", "n01440764_1.png", "ILSVRC2012_test_00000001.JPEG"],
)
def test_names_that_are_not_imagenets(given: str) -> None:
    assert official_name(given) is None
