"""A PostScript file with a photo's suffix is never passed to an interpreter."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from inceptionnext_lit import load_classifier
from inceptionnext_lit.errors import UserError
from tests.postscript import EPS, fake_ghostscript
from tests.recipes import SMALL


@pytest.mark.slow
def test_no_command_runs_postscript(
    cli: Callable[..., None],
    make_folder: Callable[..., Path],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mark = fake_ghostscript(tmp_path, monkeypatch)
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat"))
    photo = root / "train/bag/photo.jpg"
    photo.write_bytes(EPS)
    words = [*SMALL, "--data.root", root, "--data.batch_size", 4, "--trainer.max_epochs", 1]
    with pytest.raises(SystemExit):
        cli("fit", *words)
    assert "photo.jpg: its content is not an image of a known format" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"Skipped in training: .*photo\.jpg: its content is not an image"):
        cli("fit", *words, "--data.bad_images.action", "skip")
    checkpoint = trained / "checkpoints/best.ckpt"
    cli("predict", root / "train", "--ckpt_path", checkpoint, "--output", "out.csv", "--data.num_workers", 0)
    assert "photo.jpg,its content is not an image of a known format" in Path("out.unreadable.csv").read_text()
    with pytest.raises(SystemExit):
        cli("doctor", root, "--output", "report.json", "--workers", 1)
    findings = json.loads(Path("report.json").read_text())["findings"]
    assert ["train/bag/photo.jpg"] in [finding["paths"] for finding in findings if finding["kind"] == "unreadable"]
    classifier = load_classifier(checkpoint, device="cpu")
    with pytest.raises(UserError, match=r"photo\.jpg: its content is not an image of a known format"):
        classifier.predict(photo)
    with pytest.raises(UserError, match=r"cannot be used: its format is EPS; give a copy of its pixels"):
        classifier.predict(Image.open(photo))
    assert not mark.exists()


@pytest.mark.slow
def test_every_command_has_the_pixel_limit(
    cli: Callable[..., None], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos/large.png"
    Image.new("RGB", (90, 70), (9, 99, 9)).save(photo)
    Image.new("RGB", (50, 40), (99, 9, 9)).save(tmp_path / "photos/small.png")
    checkpoint = trained / "checkpoints/best.ckpt"
    predict = [
        "predict",
        "photos",
        "--ckpt_path",
        checkpoint,
        "--data.num_workers",
        0,
        "--data.bad_images.max_pixels",
        6299,
    ]
    cli(*predict, "--output", "out.csv")
    reason = "it has 90×70 pixels, more than data.bad_images.max_pixels allows (6,299)"
    assert f'large.png,"{reason}"' in Path("out.unreadable.csv").read_text()
    assert "small.png" in Path("out.csv").read_text()
    with pytest.raises(SystemExit):
        cli("doctor", "photos", "--max_pixels", 6299, "--output", "report.json", "--workers", 1)
    findings = json.loads(Path("report.json").read_text())["findings"]
    assert [f["message"] for f in findings if f["kind"] == "too_large"] == [f"large.png: {reason}."]
    classifier = load_classifier(checkpoint, device="cpu", max_pixels=6299)
    for image in (photo, Image.open(photo)):
        with pytest.raises(
            UserError, match=r"it has 90×70 pixels, more than data\.bad_images\.max_pixels allows \(6,299\)"
        ):
            classifier.predict(image)
    assert len(load_classifier(checkpoint, device="cpu", max_pixels=6300).predict(photo)) == 1
