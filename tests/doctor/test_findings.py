"""Findings from the names, locations and numbers of files."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from inceptionnext_lit.doctor.examine import Examination, Look
from inceptionnext_lit.doctor.findings import Finding
from inceptionnext_lit.doctor.listing import Item, list_folder
from inceptionnext_lit.doctor.report import Report, examine_listing
from inceptionnext_lit.wording import listed, printable

Diagnose = Callable[..., Report]


@pytest.fixture
def diagnose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diagnose:
    """Return the report on a folder of empty files, each taken for an intact image that differs from the others."""
    numbers = count()

    def intact(paths: list[str], workers: int, tick: object, max_pixels: int) -> list[Examination]:
        fields = {"size": (80, 60), "mode": "RGB", "format": "PNG", "look": Look(thumbnail=bytes(576))}
        return [Examination(path, digest=next(numbers).to_bytes(16, "big"), **fields) for path in paths]

    monkeypatch.setattr("inceptionnext_lit.doctor.report.survey", intact)

    def run(*names: str) -> Report:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            else:
                path.touch()
        return examine_listing(list_folder(tmp_path), workers=1)

    return run


def found(report: Report) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.paths) for finding in report.findings]


PAIR = ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg")


FEW = [("few_images", ("Training/a",)), ("few_images", ("Training/b",))]
FEW_NESTED = [("few_images", (f"seg_train/seg_train/{name}",)) for name in "ab"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (PAIR, []),
        ((*PAIR, "train/c/", "val/c/x.jpg"), [("empty_class", ("train/c",))]),
        (
            (*PAIR, "train/c/1.jpg", "test/a/1.jpg", "test/d/1.jpg"),
            [
                ("missing_class", ("train/c",)),
                ("missing_class", ("train/b", "train/c")),
                ("missing_class", ("test/d",)),
            ],
        ),
        (("train/a/1.jpg", "val/a/1.jpg"), [("one_class", ("train/a",))]),
        (("a/1.jpg", "a/2.jpg", "b/1.jpg"), [("few_images", ("b",))]),
        ((*PAIR, "train/x.jpg", "y.jpg"), [("loose_images", ("train/x.jpg",)), ("loose_images", ("y.jpg",))]),
        ((*PAIR, "more/a/1.jpg", "docs/readme.txt"), [("unused_folder", ("more",))]),
        (("Training/a/1.jpg", "Training/b/1.jpg", "Testing/a/1.jpg"), [("missing_class", ("Training/b",)), *FEW]),
        (("x/seg_train/seg_train/a/1.jpg", "x/seg_train/seg_train/b/1.jpg", "x/seg_test/seg_test/b/1.jpg"),
         [("missing_class", ("seg_train/seg_train/a",)), *FEW_NESTED]),
        ((*PAIR, "train/a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/1.jpg"), [("ignored", ())]),
        ((*PAIR, "train/a/x.PSD"), [("unread_format", ("train/a/x.PSD",))]),
        (("val/a/1.jpg", "val/b/1.jpg"), [("no_train", ())]),
        (("1.jpg", "2.jpg"), [("flat_folder", (".",))]),
        ((*PAIR, "test/1.jpg"), [("flat_folder", ("test",))]),
        ((*PAIR, "valid/a/1.jpg", "valid/b/1.jpg"), [("layout", ("val", "valid"))]),
        (("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "test/a/1.jpg", "test/b/1.jpg"), [("layout", ("test",))]),
        ((*PAIR, *(f"train/a/{n}.jpg" for n in range(9))), []),
        ((*PAIR, *(f"train/a/{n}.jpg" for n in range(10))), [("imbalance", ("train/a", "train/b"))]),
    ],
)  # fmt: skip
def test_layouts(diagnose: Diagnose, names: tuple[str, ...], expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert found(diagnose(*names)) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Cat", "cat"),
        ("cat", "cat "),
        ("golden_retriever", "golden  retriever"),
        ("a-b", "a_b"),
        ("café", "cafe\u0301"),
    ],
)
def test_twins(diagnose: Diagnose, first: str, second: str) -> None:
    report = diagnose(f"{first}/1.jpg", f"{first}/2.jpg", f"{second}/1.jpg", f"{second}/2.jpg", "z/1.jpg", "z/2.jpg")
    (finding,) = report.findings
    assert (finding.kind, set(finding.paths)) == ("twin_classes", {first, second})


def test_twins_across_splits_are_also_missing(diagnose: Diagnose) -> None:
    report = diagnose("train/a/1.jpg", "train/cat/1.jpg", "val/a/1.jpg", "val/Cat/1.jpg")
    assert found(report) == [
        ("missing_class", ("train/cat",)),
        ("missing_class", ("val/Cat",)),
        ("twin_classes", ("train/cat", "val/Cat")),
    ]
    assert [finding.message for finding in report.findings] == [
        "val lacks 1 class of train: cat.",
        "train lacks 1 class of val: Cat.",
        "'cat' and 'Cat' are almost the same name (train/cat, val/Cat).",
    ]


def test_circular_links(tmp_path: Path, diagnose: Diagnose) -> None:
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "train/loop").symlink_to(tmp_path)
    (tmp_path / "train/a/again").symlink_to(tmp_path / "train/a")
    (tmp_path / "train/a/self").symlink_to("self")
    report = diagnose(*PAIR)
    assert found(report) == [
        ("looping_class", ("train/loop",)),
        ("symlink_loop", ("train/a/again",)),
        ("symlink_loop", ("train/a/self",)),
    ]
    assert report.splits == {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 1}}
    assert report.images == 4


def test_a_folder_without_permission(tmp_path: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train/a/secret").mkdir(parents=True)
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("secret"):  # root may list everything
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (finding,) = diagnose(*PAIR).findings
    assert finding == Finding(
        "unlisted_folder", "train/a/secret cannot be listed: Permission denied.", ("train/a/secret",)
    )


def test_the_same_picture(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*PAIR, "train/a/2.jpg", "train/a/3.jpg", "extra.jpg"]
    monkeypatch.setattr("inceptionnext_lit.doctor.diagnosis.duplicate_groups", lambda seen: [[0, 3, 5], [1, 2], [4, 6]])
    report = diagnose(*names)
    order = ["train/a/1.jpg", "train/a/2.jpg", "train/a/3.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg"]
    assert [(f.kind, f.paths) for f in report.findings if f.kind != "loose_images"] == [
        ("leak", (order[0], order[3], order[5])),
        ("contradiction", (order[0], order[3], order[5])),
        ("near_duplicate", (order[1], order[2])),
        ("near_duplicate", (order[4], "extra.jpg")),  # what is next to the splits leaks nothing
    ]
    assert report.problems == 3


def test_images_in_the_order_of_the_report(tmp_path: Path, diagnose: Diagnose) -> None:
    diagnose("train/a/10.jpg", "train/a/2.jpg", "train/b/sub/1.jpg", "val/a/1.jpg", "train/a/.hidden.jpg")
    assert list_folder(tmp_path).items == [
        Item(f"{tmp_path}/train/a/2.jpg", "train", "a"),
        Item(f"{tmp_path}/train/a/10.jpg", "train", "a"),
        Item(f"{tmp_path}/train/b/sub/1.jpg", "train", "b"),
        Item(f"{tmp_path}/val/a/1.jpg", "val", "a"),
    ]


def test_wording() -> None:
    assert printable("a b\tc\x1b[31m\u00a0\udcff猫") == r"a b\tc\x1b[31m\xa0\udcff猫"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed(["a", "b"]) == "a, b"
    finding = Finding("cmyk", "1 image")
    assert (finding.severity, finding.remedy[:15]) == ("note", "Nothing to do: ")
