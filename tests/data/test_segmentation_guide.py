"""The commands and the Python code of the guide to images with masks."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.data.transforms.segmentation import SEGMENTATION_LEVELS
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.pages import DOCS, blocks, commands
from tests.scenes import NAMES, scene, write_classes, write_image, write_pairs, write_palette

GUIDE = DOCS / "guides/segmentation-data.md"
COMMANDS = commands(GUIDE)


def write_sources(root: Path) -> None:
    """Write small folders under the names of the guide."""
    write_pairs(root / "MY_SCENES", counts={"train": 8, "val": 2}, height=48, width=48)
    write_classes(root / "MY_SCENES" / "classes.csv")
    ade20k = root / "ADEChallengeData2016"
    write_pairs(ade20k, counts={"training": 2, "validation": 1}, folders=("images", "annotations"))
    (ade20k / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tbuilding, edifice\n")
    for split in ("train", "val"):
        pixels, classes = scene(1)
        write_image(root / "CITYSCAPES/leftImg8bit" / split / "bonn" / "a_leftImg8bit.png", pixels)
        write_image(root / "CITYSCAPES/gtFine" / split / "bonn" / "a_gtFine_labelIds.png", classes + 7)
    voc = root / "VOCdevkit" / "VOC2012"
    write_pairs(voc, write_palette, folders=("JPEGImages", "SegmentationClass"))
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("scene0\nscene1\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("scene2\n")


def marked(words: list[str]) -> Any:
    """Mark the doctor's commands as slow: it starts processes."""
    marks = [pytest.mark.slow] if words[2] == "doctor" else []
    return pytest.param(words, id=shlex.join(words), marks=marks)


@pytest.mark.parametrize("words", [marked(words) for words in COMMANDS])
def test_commands(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write_sources(tmp_path)
    main([*words[2:], *(["--workers", "1"] if words[2] == "doctor" else [])])
    out = capsys.readouterr().out
    if words[2] == "doctor":
        assert "No problems" in out
        assert "<h2>Images with masks</h2>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    else:
        classes = {"masks": 3, "ade20k": 2, "cityscapes": 19, "voc": 21}[words[3]]
        source = MaskSource(tmp_path / words[words.index("--output") + 1])
        assert len(source.classes()) == classes
        assert len(source.samples("val") or []) >= 1


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(tmp_path)
    [code] = blocks("python", GUIDE)
    exec(code, {})
    assert capsys.readouterr().out.splitlines()[-1] == f"{NAMES} (4, 3, 32, 32) (4, 32, 32) torch.int64"


def test_the_tables_are_complete() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for name in (*SEGMENTATION_LEVELS, "index", "palette", "binary", "color", "coco", "labelme", "yolo"):
        assert f"\n| `{name}` | " in text
