"""``prepare masks``: each kind of masks becomes the same index masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.data.masks.test_mask_kinds import read_all
from tests.scenes import (
    COLORS,
    NAMES,
    Index,
    colored,
    scene,
    write_classes,
    write_coco,
    write_image,
    write_labelme,
    write_pairs,
    write_palette,
    write_yolo,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def write_colors(root: Path) -> dict[str, Index]:
    written = write_pairs(root, lambda path, mask: write_image(path, colored(mask)))
    write_classes(root / "classes.csv")
    return written


KINDS: dict[str, Callable[[Path], dict[str, Index]]] = {
    "index": lambda root: write_pairs(root, ignored=True),
    "palette": lambda root: write_pairs(root, lambda path, mask: write_palette(path, mask, COLORS)),
    "binary": lambda root: write_pairs(root, lambda path, mask: write_image(path, mask * 255), classes=2),
    "color": write_colors,
    "coco": write_coco,
    "labelme": write_labelme,
    "yolo": write_yolo,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [False, True])
def test_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, given: bool) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    written = KINDS[kind](source)
    words = ["prepare", "masks", "--source", str(source), "--output", str(output)]
    main([*words, *(["--kind", kind] if given else [])])
    names = {"binary": ["background", "foreground"], "index": ["0", "1", "2"], "palette": ["0", "1", "2"]}.get(
        kind, NAMES
    )
    prepared = MaskSource(output)
    found = read_all(prepared)
    assert found.keys() == written.keys()
    assert all(np.array_equal(found[stem], mask) for stem, mask in written.items())
    assert prepared.classes() == names
    assert prepared.scheme.kind == "palette"
    stem = next(iter(written))
    image = output / "images" / "train" / f"{stem}.jpg"
    assert image.is_symlink()
    assert image.read_bytes() == next(source.rglob(f"{stem}.jpg")).read_bytes()
    with Image.open(output / "masks" / "train" / f"{stem}.png") as mask:
        assert mask.mode == "P"
    out = capsys.readouterr().out
    assert f"images with masks: 4 train images, {len(names)} classes, in {output}\n" in out
    assert f"fit --config segment/folder --data.root {output}\n" in out


def test_splits_and_folders_in_them_are_kept(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    ids = np.array([7, 26, 0], dtype=np.uint8)
    for split in ("train", "val", "test"):
        pixels, classes = scene(1)
        stem = "aachen_000000_000019"
        write_image(source / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png", pixels)
        values = ids[classes] if split != "test" else np.zeros_like(classes)
        write_image(source / "gtFine" / split / "aachen" / f"{stem}_gtFine_labelIds.png", values)
    main(["prepare", "cityscapes", "--source", str(source), "--output", str(output)])
    name = "aachen/aachen_000000_000019_leftImg8bit"
    assert (output / "images" / "val" / f"{name}.png").exists()
    assert (output / "masks" / "val" / f"{name}.png").exists()
    assert not (output / "masks" / "test").exists()  # they are placeholders
    prepared = MaskSource(output)
    assert np.array_equal(read_all(prepared, "val")[Path(name).name], np.array([0, 13, 255], np.uint8)[scene(1)[1]])
    assert prepared.classes()[13] == "car"


def test_ade20k_is_not_reduced_twice(tmp_path: Path) -> None:
    source, output = tmp_path / "ADEChallengeData2016", tmp_path / "out"
    written = write_pairs(source, counts={"training": 3, "validation": 2}, folders=("images", "annotations"))
    (source / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n2\tbuilding, edifice\n")
    main(["prepare", "ade20k", "--source", str(tmp_path), "--output", str(output)])
    prepared = MaskSource(output)
    for stem, mask in read_all(prepared).items():
        assert np.array_equal(mask, np.array([255, 0, 1], dtype=np.uint8)[written[stem]])
    assert prepared.classes() == ["wall", "building"]
    assert not prepared.options.reduce_zero_label


def test_the_same_command_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write_pairs(source)
    words = ["prepare", "masks", "--source", str(source), "--output", str(output)]
    main(words)
    before = (output / "masks/train/scene0.png").stat().st_mtime_ns
    main(words)
    assert "is complete; --overwrite prepares it again." in capsys.readouterr().out
    (output / "dataset.json").unlink()  # stopped before it was written
    main(words)
    assert (output / "masks/train/scene0.png").stat().st_mtime_ns == before
    write_pairs(source, lambda path, mask: write_image(path, 2 - mask))
    main([*words, "--overwrite"])
    assert np.array_equal(read_all(MaskSource(output))["scene0"], 2 - scene(0)[1])
    assert not (output / ".replaced").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["masks"], "Name the folder of images with masks with --source; it is not downloaded."),
        (
            ["voc", "--source", "{in}"],
            "{in} does not have the layout of Pascal VOC; for another folder, use prepare masks.",
        ),
        (["masks", "--source", "{in}", "--subset", "1,1"], "--subset is for other data sets; leave it out for masks."),
        (
            ["cifar10", "--kind", "index"],
            "--kind is for masks, ade20k, cityscapes, voc only; leave it out for cifar10.",
        ),
        (["masks", "--source", "{out}"], "--source and --output are both {out}; name another folder with --output."),
        (["masks", "--source", "{in}/images"], "{in}/images is not a folder of images with masks."),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    write_pairs(tmp_path / "in")
    names: dict[str, Any] = {"in": str(tmp_path / "in"), "out": str(tmp_path / "out")}
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", *(word.format(**names) for word in words), "--output", names["out"]])
    assert stopped.value.code == 1
    assert expected.format(**names) in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "dataset.json").exists()
