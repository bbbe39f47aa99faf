"""The doctor on folders of images with masks."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.doctor.mask_page import overlay
from inceptionnext_lit.doctor.page import render_page
from inceptionnext_lit.doctor.scenes import SceneReport, examine_scenes
from inceptionnext_lit.doctor.terminal import print_report
from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.scenes import COLORS, NAMES, Index, colored, scene, write_classes, write_coco, write_image, write_pairs


@pytest.fixture(autouse=True)
def in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inceptionnext_lit.doctor.examine import examine

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(
        "inceptionnext_lit.doctor.scenes.survey", lambda paths, workers, tick, most: [examine(p, most) for p in paths]
    )


def examined(root: Path) -> tuple[SceneReport, dict[str, list[str]]]:
    report = examine_scenes(root, workers=1)
    kinds: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.kind != "masks":
            kinds.setdefault(finding.kind, []).extend(finding.paths)
    return report, kinds


def test_a_clean_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    written = write_pairs(root, counts={"train": 3, "val": 2}, ignored=True)
    report, kinds = examined(root)
    assert kinds == {}
    assert report.problems == 0
    assert report.images == 5
    assert [report.images_of(split) for split in report.splits] == [3, 2]
    shown = io.StringIO()
    print_report(report, Console(file=shown, width=120))
    assert shown.getvalue().startswith("train: 3 images, 3 classes, largest to smallest 1 : 1\n")
    assert "<h3>val: 2 images</h3>" in render_page(report)
    assert report.splits == {"train": {"0": 3, "1": 3, "2": 3}, "val": {"0": 2, "1": 2, "2": 2}}
    masks = np.stack([mask for stem, mask in written.items() if stem.startswith("train")])
    assert report.ignored["train"] == pytest.approx((masks == 255).mean(), abs=1e-6)
    assert report.shares["train"]["2"] == pytest.approx((masks == 2).sum() / (masks != 255).sum(), abs=1e-6)
    assert [finding.message for finding in report.findings] == [
        "Masks by value, with 3 classes.",
        "Pixels of the value 255 are ignored: 8.3%.",
    ]
    assert len(report.sheet) == 5
    assert re.fullmatch(r"train: labeled pixels are 0 \d+\.\d%, [12] .*%; ignored 8\.3%", report.share_lines()[0])


def save(path: Path, image: Image.Image, **options: Any) -> None:
    image.save(path, **options)


def test_each_problem_is_found(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_pairs(root, counts={"train": 10, "val": 2})
    write_classes(root / "classes.csv", [*NAMES, "bird"], [*COLORS, (9, 9, 9)])
    masks = root / "masks" / "train"
    (masks / "train0.png").unlink()
    write_image(masks / "extra.png", scene(0)[1])
    write_image(masks / "train1.png", scene(1, 20, 20)[1])
    write_image(masks / "train2.png", scene(2)[1] + np.uint8(40))
    Image.fromarray(scene(3)[1]).save(masks / "train3.png", "JPEG")
    Image.fromarray(scene(4)[1].astype(np.uint16)).save(masks / "train4.png")
    write_image(masks / "train5.png", np.full((24, 32), 255, dtype=np.uint8))
    write_image(masks / "train6.png", np.zeros((24, 32), dtype=np.uint8))
    (masks / "train7.png").write_bytes(b"nothing")
    (root / "images" / "val" / "val0.jpg").write_bytes((root / "images" / "train" / "train8.jpg").read_bytes())
    report, kinds = examined(root)
    assert kinds == {
        "unreadable": ["masks/train/train7.png"],
        "leak": ["images/train/train8.jpg", "images/val/val0.jpg"],
        "mask_missing": ["images/train/train0.jpg"],
        "image_missing": ["masks/train/extra.png"],
        "mask_size": ["masks/train/train1.png"],
        "mask_values": ["masks/train/train2.png"],
        "mask_jpeg": ["masks/train/train3.png"],
        "mask_depth": ["masks/train/train4.png"],
        "absent_class": ["bird"],
        "unlabeled": ["images/train/train5.jpg"],
        "background_only": ["images/train/train6.jpg"],
    }
    assert report.problems == 9


def test_colors_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_pairs(root, lambda path, mask: write_image(path, colored(mask)))
    report, kinds = examined(root)
    assert list(kinds) == ["mask_kind"]
    assert "have colors: (0, 0, 0), (10, 90, 250), (200, 30, 30)." in report.findings[0].message
    assert report.splits == {"train": {"": 4}}
    write_classes(root / "classes.csv")
    report, kinds = examined(root)
    assert kinds == {}
    assert report.findings[0].message == "Colors: background (0, 0, 0), cat (200, 30, 30), dog (10, 90, 250)."


def test_black_and_white_is_said(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_pairs(root, lambda path, mask: write_image(path, np.where(mask > 0, 255, 0).astype(np.uint8)))
    report, _ = examined(root)
    assert report.findings[0].message == "Masks of 0 and 255 (background and foreground), with 2 classes."
    write_classes(root / "classes.csv")
    report, kinds = examined(root)
    assert list(kinds) == ["mask_kind"]
    assert "only have the values 0 and 255, which is for two classes, but 3 classes are" in report.findings[0].message


def test_polygons(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_coco(root)
    content = json.loads((root / "annotations/instances.json").read_text())
    content["annotations"][0]["segmentation"] = []
    (root / "annotations/instances.json").write_text(json.dumps(content))
    report, kinds = examined(root)
    assert kinds == {"mask_outline": ["annotations/instances.json"]}
    assert "The annotation 0 of 0.jpg in " in report.findings[0].message
    assert "has a box without a segmentation" in report.findings[0].message


def test_overlays_have_the_classes_colors(tmp_path: Path) -> None:
    mask: Index = np.zeros((40, 60), dtype=np.uint8)
    mask[:, 30:], mask[30:] = 1, 255
    for number in range(2):
        write_image(tmp_path / f"images/{number}.png", np.full((40, 60, 3), 100, dtype=np.uint8))
        write_image(tmp_path / f"masks/{number}.png", mask)
    source = MaskSource(tmp_path)
    found = overlay(tmp_path / "images/0.png", str(tmp_path / "masks/0.png"), source.scheme)
    assert found is not None
    import base64
    import io

    with Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))) as picture:
        pixels = np.asarray(picture).astype(int)
    for row, column, expected in [(10, 10, (100, 100, 100)), (10, 50, (115, 45, 45)), (36, 10, (185, 185, 185))]:
        assert np.abs(pixels[row, column] - expected).max() <= 6


def test_the_command_and_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data"
    write_pairs(root, counts={"train": 3, "val": 2})
    main(["doctor", str(root), "--workers", "1", "--output", "report.html"])
    out = capsys.readouterr().out
    assert "train: labeled pixels are 0 " in out
    assert "No problems, 1 note." in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure ") == 5
    assert 'alt="images/train/train0.jpg with its mask"' in page
    assert "<h3>train: ignored 0.0% of all pixels</h3>" in page
    write_classes(tmp_path / "table.csv", NAMES[:2], COLORS[:2])
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(root), "--workers", "1", "--output", "report.json", "--classes", "table.csv"])
    assert stopped.value.code == 1
    record = json.loads((tmp_path / "report.json").read_text())
    assert {finding["kind"] for finding in record["findings"]} == {"mask_values", "masks"}
    assert set(record["shares"]["train"]) == {"background", "cat"}
