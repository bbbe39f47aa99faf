"""The scan: layouts, classes, what is skipped, and what is refused."""

import os
import warnings
from pathlib import Path

import pytest

from inceptionnext_lit.data.files import list_images
from inceptionnext_lit.data.folder import Layout, find_layout, list_classes, scan_split, training_classes
from inceptionnext_lit.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(paths: list[str], root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in paths]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_layout_with_splits(tmp_path: Path, val: str) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{val}/a/1.jpg", "test/a/1.jpg", "annotations/x.json")
    assert find_layout(tmp_path) == Layout(tmp_path, tmp_path / "train", tmp_path / val, tmp_path / "test")


def test_layout_of_train_alone_and_of_classes_alone(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "train/a/1.jpg", "train/b/1.jpg")
    assert find_layout(one) == Layout(one, one / "train", None, None)
    two = touch(tmp_path / "two", "a/1.jpg", "b/1.jpg", ".git/x", "__MACOSX/a/1.jpg")
    assert find_layout(two) == Layout(two, two, None, None)
    assert training_classes(find_layout(two)) == ["a", "b"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "bus/1.jpg", "car/1.jpg", "train/1.jpg")
    assert training_classes(find_layout(tmp_path)) == ["bus", "car", "train"]


def test_layout_without_train(tmp_path: Path) -> None:
    touch(tmp_path, "val/a/1.jpg", "test/a/1.jpg")
    layout = find_layout(tmp_path)
    assert layout == Layout(tmp_path, None, tmp_path / "val", tmp_path / "test")
    with pytest.raises(UserError, match=r"has no train/ folder, whose class folders name the classes"):
        training_classes(layout)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], r"has both val/ and valid/, and only one"),
        (["cat/1.jpg", "dog/1.jpg", "test/1.jpg"], r"has test/ beside class folders such as cat/, but no train/"),
    ],
)
def test_ambiguous_layout(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        find_layout(tmp_path)


def test_root_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none does not exist. .*ROOT/train/CLASS/\*\.jpg and ROOT/val/CLASS"
    ) as caught:
        find_layout(tmp_path / "none")
    assert "--data.root" in str(caught.value)
    touch(tmp_path, "file.jpg")
    with pytest.raises(UserError, match=r"file\.jpg is a file\."):
        find_layout(tmp_path / "file.jpg")


def test_folder_without_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no class folders \(no images either\)"):
        list_classes(tmp_path)
    touch(tmp_path, "1.jpg", "2.PNG", "notes.txt", ".hidden.jpg")
    with pytest.raises(UserError, match=r"has no class folders \(2 images lie loose in it\)"):
        list_classes(tmp_path)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    touch(tmp_path, "train/only/1.jpg")
    with pytest.raises(UserError, match=r"train has only one class folder, only, and a classifier needs at least two"):
        training_classes(find_layout(tmp_path))


def test_scan_maps_by_the_given_classes(tmp_path: Path) -> None:
    touch(tmp_path, "b/10.jpg", "b/2.jpg", "c/deep/er/1.TIFF", "c/1.webp")
    samples = scan_split(tmp_path, ["a", "b", "c"], "training")
    assert [(os.path.relpath(path, tmp_path), label) for path, label, *_ in samples] == [
        ("b/2.jpg", 1),
        ("b/10.jpg", 1),
        ("c/1.webp", 2),
        ("c/deep/er/1.TIFF", 2),
    ]


def test_scan_refuses_unknown_and_empty_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "zebra/1.jpg", "gnu/readme.txt")
    with pytest.raises(UserError, match=r"that the training split does not have: gnu, zebra\. Known are a, b\."):
        scan_split(tmp_path, ["a", "b"], "the training split")
    with pytest.raises(UserError, match=r"The class folder .*gnu holds no images \(known endings: .*\.jpg"):
        scan_split(tmp_path, ["a", "gnu", "zebra"], "the training split")


def test_what_is_skipped(tmp_path: Path) -> None:
    touch(
        tmp_path, "1.jpg", "._1.jpg", ".hidden.jpg", ".cache/2.jpg", "Thumbs.db", "desktop.ini",
        "__MACOSX/3.jpg", "notes.txt", "4.JPEG", "5.gif", "6.pgm", "7.bmp",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert relative(list_images(tmp_path), tmp_path) == ["1.jpg", "4.JPEG", "5.gif", "6.pgm", "7.bmp"]


def test_pictures_that_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.HEIC", "3.heic")
    with pytest.warns(UserWarning, match=r"^2 pictures below .* are in a format that is not read"):
        assert relative(list_images(tmp_path), tmp_path) == ["1.jpg"]


def test_natural_order(tmp_path: Path) -> None:
    names = ["B1.jpg", "a/9.jpg", "a/10.jpg", "a-1.jpg", "img2.jpg", "img10.jpg", "img010.jpg", "²x.jpg"]
    touch(tmp_path, *names)
    assert relative(list_images(tmp_path), tmp_path) == [
        "a/9.jpg", "a/10.jpg", "a-1.jpg", "B1.jpg", "img2.jpg", "img010.jpg", "img10.jpg", "²x.jpg",
    ]  # fmt: skip


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "elsewhere/2.jpg")
    folder = tmp_path / "train" / "a"
    (folder / "loop").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path / "train")
    (folder / "first").symlink_to(tmp_path / "elsewhere")
    (folder / "second").symlink_to(tmp_path / "elsewhere")
    assert relative(list_images(folder), folder) == ["1.jpg", "first/2.jpg"]
