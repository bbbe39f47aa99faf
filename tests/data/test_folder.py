"""The scan of a folder: layouts, classes, skipped files and errors."""

import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from inceptionnext_lit.data.sources.files import list_images
from inceptionnext_lit.data.sources.folder import Layout, find_layout, list_classes, scan_split, training_classes
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
        (["cat/1.jpg", "dog/1.jpg", "test/1.jpg"], r"has test/ next to class folders such as cat/, but no train/"),
    ],
)
def test_ambiguous_layout(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        find_layout(tmp_path)


def test_root_that_is_not_a_folder(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match=r"has no class folders \(2 loose images in it\)"):
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
    with pytest.raises(UserError, match=r"The class folder .*gnu has no images \(known suffixes: .*\.jpg"):
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
    touch(tmp_path, "1.jpg", "2.PSD", "3.psd")
    with pytest.warns(UserWarning, match=r"^2 pictures below .* are in an unsupported format"):
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


@pytest.mark.parametrize(
    ("names", "train", "val", "test"),
    [
        ("training/a/1 training/b/1 testing/a/1", "training", None, "testing"),
        ("Train/a/1 Train/b/1 Test/a/1 Val/a/1", "Train", "Val", "Test"),
        ("TRAIN/a/1 TRAIN/b/1 VALID/a/1", "TRAIN", "VALID", None),
        ("train/a/1 train/b/1 dev/a/1", "train", "dev", None),
        ("train/a/1 train/b/1 eval/a/1", "train", "eval", None),
        ("train/a/1 train/b/1 train_images/a/1", "train", None, None),
        ("archive/train/a/1 archive/train/b/1 archive/valid/a/1 __MACOSX/x/1", "archive/train", "archive/valid", None),
        ("x/seg_train/seg_train/a/1 x/seg_train/seg_train/b/1 x/seg_test/seg_test/a/1 x/seg_pred/seg_pred/1",
         "x/seg_train/seg_train", None, "x/seg_test/seg_test"),
        ("training_set/training_set/a/1 training_set/training_set/b/1 test_set/test_set/a/1",
         "training_set/training_set", None, "test_set/test_set"),
        ("flowers/a/1 flowers/b/1", "flowers", None, None),
        # a split with a single class is not a wrapper of the folders in it
        ("train/a/1 train/b/1 val/a/deep/1 val/a/more/1", "train", "val", None),
    ],
)  # fmt: skip
def test_layouts_as_others_unpack_them(
    tmp_path: Path, names: str, train: str, val: str | None, test: str | None
) -> None:
    touch(tmp_path, *(f"{name}.jpg" for name in names.split()))
    layout = find_layout(tmp_path)
    found = [
        None if place is None else str(place.relative_to(tmp_path)) for place in (layout.train, layout.val, layout.test)
    ]
    assert found == [train, val, test]
    assert training_classes(layout) == ["a", "b"]


def test_folders_next_to_the_splits_are_reported(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/a/1.jpg",
        "train/b/1.jpg",
        "raw/a/1.jpg",
        "notes/x.json",
        "test_images/1.jpg",
        "test/a/1.jpg",
    )
    assert find_layout(tmp_path).unused == ("notes", "raw", "test_images")


def test_a_known_class_is_not_a_wrapper(tmp_path: Path) -> None:
    touch(tmp_path, "cat/monday/1.jpg", "cat/tuesday/1.jpg")
    assert find_layout(tmp_path, ["cat", "dog"]).train == tmp_path
    assert find_layout(tmp_path).train == tmp_path / "cat"


@pytest.mark.parametrize("names", ["trainA trainB testA testB", "train1 train2 test1"])
def test_splits_are_not_classes(tmp_path: Path, names: str) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in names.split()))
    with pytest.raises(UserError, match=r"are named like splits, not like classes: test"):
        training_classes(find_layout(tmp_path))
    touch(tmp_path / "other", "train/train/1.jpg", "train/val/1.jpg")
    with pytest.raises(UserError, match=r"folders of .*train are named like splits, not like classes: train, val\."):
        training_classes(find_layout(tmp_path / "other"))
    touch(tmp_path / "flat", "Train/1.jpg", "Test/1.jpg")
    with pytest.raises(UserError, match=r"Train has no class folders \(1 loose image in it\)"):
        training_classes(find_layout(tmp_path / "flat"))


def test_junk_is_ignored_and_counted(tmp_path: Path) -> None:
    touch(
        tmp_path, "a/1.jpg", "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg", "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "a/.thumbnails/1.jpg", "a/.AppleDouble/1.jpg", "a/._1.jpg", "b/2.jpg",
        "b/.ipynb_checkpoints/2-checkpoint.jpg", "b/SYNOPHOTO_THUMB_M.jpg",
        "lost+found/3.jpg", "#recycle/a/4.jpg", "$RECYCLE.BIN/5.jpg",
        "@eaDir/6.jpg", "b/.7.jpg",
    )  # fmt: skip
    ignored: Counter[str] = Counter()
    samples = scan_split(tmp_path, ["a", "b"], "training", ignored=ignored)
    assert [os.path.relpath(sample.path, tmp_path) for sample in samples] == ["a/1.jpg", "b/2.jpg"]
    assert ignored == {
        "@eaDir": 3, ".thumbnails": 1, ".AppleDouble": 1, ".ipynb_checkpoints": 1, "thumbnails": 1, "lost+found": 1,
        "#recycle": 1, "$RECYCLE.BIN": 1, "hidden files": 1,
    }  # fmt: skip
    assert list_classes(tmp_path) == ["a", "b"]


def test_many_classes_take_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is hashed a few times; a set of all names per name would take millions of hashes."""

    class Name(str):
        hashed = 0

        def __hash__(self) -> int:
            Name.hashed += 1
            return super().__hash__()

    names = [Name(f"class {n:04}") for n in range(300)]
    touch(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert [sample.label for sample in scan_split(tmp_path, names, "training")] == list(range(300))
    assert Name.hashed < 10 * 300


def test_a_long_scan_reports_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("inceptionnext_lit.data.sources.scan._EVERY", 1)
    touch(tmp_path, *(f"{name}/{n}.jpg" for name in "abc" for n in range(5)))
    scan_split(tmp_path, list("abc"), "training")
    assert capsys.readouterr().err == ""  # it is done within a second
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    scan_split(tmp_path, list("abc"), "training")
    assert capsys.readouterr() == ("", "Scanning … 5 files\n")
    monkeypatch.setenv("LOCAL_RANK", "1")
    scan_split(tmp_path, list("abc"), "training")
    assert capsys.readouterr().err == ""


def test_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{name}/{n}.jpg" for name in "ab" for n in range(50)))
    looks: list[object] = []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, **options: looks.append(args) or real(*args, **options))
    assert len(scan_split(tmp_path, ["a", "b"], "training")) == 100
    assert len(looks) < 50


@pytest.mark.parametrize("names", [("images", "masks"), ("Annotations", "JPEGImages")])
def test_images_and_masks_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *(f"{name}/{n}.jpg" for name in names for n in range(2)))
    with pytest.raises(UserError, match=r"which look like images with masks for segmentation, not like classes"):
        training_classes(find_layout(tmp_path))
