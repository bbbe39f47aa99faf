"""Exported files label images as their checkpoint does."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from inceptionnext_lit import Classifier, ExportedClassifier, load_classifier
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.resizing import resize_and_crop
from inceptionnext_lit.preprocessing import Preprocessing
from tests.export.conftest import CALIBRATION, CLASSES, SMALL, Export, assert_same
from tests.pages import DOCS, blocks

Cli = Callable[..., None]


@pytest.fixture
def checkpoint(place: Path) -> Classifier:
    found = load_classifier(place / "best.ckpt", device="cpu")
    assert isinstance(found, Classifier)
    return found


def test_onnx_labels_as_the_checkpoint(place: Path, photos: list[str], checkpoint: Classifier) -> None:
    found = load_classifier(place / "best.onnx")
    assert isinstance(found, ExportedClassifier)
    assert found.class_names == checkpoint.class_names
    assert found.preprocessing == checkpoint.preprocessing
    assert_same(found.predict(photos), checkpoint.predict(photos), 2e-3)  # bicubic overshoots in another order
    assert_same(found.predict(photos, batch_size=3), found.predict(photos), 1e-6)
    pictures = [Image.open(path) for path in photos[:3]]
    arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
    for images in (pictures, arrays, [torch.from_numpy(one.copy()).permute(2, 0, 1) for one in arrays]):
        assert_same(found.predict(images), checkpoint.predict(images), 2e-3)
    assert found.predict([]) == []


def test_the_guide_s_example_gives_the_numbers_of_predict(
    place: Path, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a photo whose rotation stands beside the pixels."""
    monkeypatch.chdir(place)
    [code] = [code for code in blocks("python", DOCS / "guides/export.md") if "onnxruntime" in code]
    [turned] = [photo for photo in photos if photo.endswith("turned.jpg")]
    found: dict[str, Any] = {}
    exec(code.replace("photo.jpg", turned), found)
    [expected] = load_classifier(place / "best.onnx").predict(turned)
    probabilities = dict(zip(CLASSES, found["probabilities"].tolist(), strict=True))
    assert probabilities == pytest.approx(expected.top5, abs=1e-6)


def test_onnx_with_its_runtime_alone(place: Path, photos: list[str]) -> None:
    absent = ["torch", "timm", "lightning", "torchvision", "torchmetrics", "jsonargparse", "onnx", "onnxscript"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); from inceptionnext_lit import load_classifier; "
        f"print(load_classifier({str(place / 'best.onnx')!r}).predict({photos[0]!r})[0].label)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    [expected] = load_classifier(place / "best.ckpt", device="cpu").predict(photos[0])
    assert done.stdout.splitlines() == [expected.label], done.stderr


@pytest.mark.parametrize(
    ("words", "multi_label"),
    [
        (["--input", "tensor"], True),
        (["--dynamic", "batch"], False),
        pytest.param(["--input", "tensor"], False, marks=pytest.mark.slow),
        pytest.param(["--input", "tensor", "--dynamic", "none"], False, marks=pytest.mark.slow),
        pytest.param(["--dynamic", "none"], True, marks=pytest.mark.slow),
        pytest.param(["--dynamic", "batch"], True, marks=pytest.mark.slow),
        pytest.param(["--dynamic", "size", "--features"], True, marks=pytest.mark.slow),
        pytest.param(["--dynamic", "size", "--features"], False, marks=pytest.mark.slow),
    ],
)
def test_forms_of_the_file(export: Export, photos: list[str], words: list[str], multi_label: bool) -> None:
    calibration = CALIBRATION if multi_label else {"temperature": 0.6, "thresholds": None}
    file = export("x.pt2", "--format", "pt2", *words, multi_label=multi_label, calibration=calibration)
    found, expected = load_classifier(file), load_classifier(file.with_name("best.ckpt"), device="cpu")
    whole = "size" in words
    assert_same(found.predict(photos), expected.predict(photos), 2e-3 if whole else 1e-6)


@pytest.mark.parametrize("channels", [1, *(pytest.param(more, marks=pytest.mark.slow) for more in (4, 5))])
def test_other_channels(export: Export, tmp_path: Path, channels: int) -> None:
    steps = {"mean": [0.4] * channels, "std": [0.2] * channels}
    file = export("x.pt2", "--format", "pt2", kwargs=SMALL | {"in_chans": channels}, preprocessing=steps)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 33, channels), np.uint8)
    for number, one in enumerate(pixels):
        np.save(tmp_path / f"{number}.npy", one.squeeze() if channels == 1 else one)
    paths = [str(tmp_path / f"{number}.npy") for number in range(3)]
    expected = load_classifier(tmp_path / "best.ckpt", device="cpu")
    assert_same(load_classifier(file).predict(paths), expected.predict(paths), 1e-6)
    content = json.loads(file.with_name("x.pt2.json").read_text())
    assert content["input"] == "tensor"
    assert content["check"]["source"] == ("random" if channels > 4 else "the embedded ones")
    with pytest.raises(SystemExit):
        export("y.pt2", "--format", "pt2", "--input", "pixels")
    assert not Path("y.pt2").exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_are_those_of_the_checkpoint(
    place: Path, photos: list[str], cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    (tmp_path / "photos/broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "photos/._0.png").write_bytes(b"\x00")
    shutil.copy(place / "best.ckpt", "best.ckpt")
    options = ["--probabilities", "all", "--unsure_below", "0.7"]
    cli("predict", place / "best.onnx", "photos", "--output", f"a.{suffix}", *options)
    printed = capsys.readouterr().out
    cli("predict", "photos", "--ckpt_path", "best.ckpt", "--output", f"b.{suffix}", *options, "--data.num_workers", 0)
    assert capsys.readouterr().out.replace(" b.", " a.").splitlines()[-3:] == printed.splitlines()[-3:]
    rows = [Path(f"{name}.{suffix}").read_text() for name in "ab"]
    found, expected = (
        [list(csv.DictReader(text.splitlines())) for text in rows]
        if suffix == "csv"
        else [[json.loads(line) for line in text.splitlines()] for text in rows]
    )
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        assert (one["label"], one["unsure"]) == (other["label"], other["unsure"])
        assert float(one["probability"]) == pytest.approx(float(other["probability"]), abs=2e-3)
    assert Path("a.unreadable.csv").read_text() == Path("b.unreadable.csv").read_text()


def test_predict_continues(place: Path, photos: list[str], cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    cli("predict", *photos[:4], "--ckpt_path", place / "best.onnx", "--output", "a.csv")
    cli("predict", place / "best.onnx", *photos, "--output", "a.csv", "--resume")
    assert f"({len(photos)} in all)" in capsys.readouterr().out
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert sorted(row["path"] for row in rows) == photos


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.onnx", "photos"], "gone.onnx does not exist; give a file that export has written."),
        (["best.onnx"], "No images were named; give them after best.onnx, or a folder with --data.root."),
        (["best.onnx", "photos", "--data.root", "photos"], "Images are given twice"),
        (
            ["photos", "best.onnx"],
            "best.onnx is named like an exported file; give it before the images: predict best.onnx",
        ),
        (["text.onnx", "photos"], "text.onnx cannot be loaded by ONNX Runtime: "),
        (["plain.onnx", "photos"], "plain.onnx does not say which classes and images it is for; use a file that"),
        (["later.onnx", "photos"], "later.onnx was written by a later version of this package"),
        (["damaged.onnx", "photos"], "The metadata in damaged.onnx are damaged ('name'); export it again."),
        (["text.pt2", "photos"], "text.pt2 is damaged, or not a file of torch.export; export it again."),
        (["cut.pt2", "photos"], "cut.pt2 is damaged, or not a file of torch.export; export it again."),
        (["weights.pt2", "photos"], "weights.pt2 is damaged, or not a file of torch.export; export it again."),
        (["best.onnx", "photos", "--trainer.devices", "2"], "Unknown key '--trainer.devices'; "),
    ],
)
def test_refusals(
    place: Path,
    photos: list[str],
    cli: Cli,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    shutil.copy(place / "best.onnx", tmp_path)
    for name in ("text.onnx", "text.pt2"):
        Path(name).write_text("not a model")
    torch.save({"weight": torch.zeros(9)}, "weights.pt2")
    Path("cut.pt2").write_bytes(Path("weights.pt2").read_bytes()[:400])
    for name, texts in {
        "plain": {},
        "later": {"inceptionnext_lit": '{"format_version": 2}'},
        "damaged": {"inceptionnext_lit": '{"format_version": 1}'},
    }.items():
        model = onnx.load("best.onnx")
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, f"{name}.onnx")
    with pytest.raises(SystemExit) as stop:
        cli("predict", *words)
    assert stop.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("predictions.csv").exists()


def test_a_device_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"best\.onnx is an exported file, which runs on the CPU as it is"):
        load_classifier(place / "best.onnx", device="cuda")


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [32, [24, 40]], ids=str)
def test_pillow_alone_resizes_as_the_evaluation(size: int | list[int], mode: str) -> None:
    random = np.random.default_rng(0)
    for crop_pct in (1.0, 0.875, 0.9, 1.2):
        for height, width in ((32, 32), (24, 40), (50, 31), (29, 77), (100, 63), (64, 64)):
            steps = Preprocessing(
                image_size=size,
                crop_pct=crop_pct,
                interpolation="bicubic",
                mean=[0.4, 0.5, 0.6],
                std=[0.2] * 3,
                crop_mode=mode,  # type: ignore[typeddict-item]
            )
            picture = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
            expected = eval_transform(steps)(picture).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(resize_and_crop(picture, steps), expected)


@pytest.mark.parametrize("multi_label", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_evaluate_gives_the_metrics_of_the_checkpoint(
    export: Export, make_folder: Callable[..., Path], cli: Cli, multi_label: bool
) -> None:
    calibration = CALIBRATION if multi_label else {"temperature": 0.6, "thresholds": None}
    file = export("x.pt2", "--format", "pt2", "--dynamic", "batch", multi_label=multi_label, calibration=calibration)
    images = make_folder(file.parent / "images", {".": 8}, classes=("bag", "coat", "sandal"))
    for old, new in zip(("bag", "coat", "sandal"), CLASSES, strict=True):
        (images / old).rename(images / new)
    if multi_label:
        lines = [f"{path},{path.parent.name}" for path in sorted(images.rglob("*.png"))]
        images = file.with_name("images.csv")
        images.write_text("path,label\n" + "\n".join(lines))
    reports = []
    for name in ("x.pt2", "best.ckpt"):
        cli("evaluate", name, "--data.root", images, "--output", name[0], "--resamples", 100, "--data.num_workers", 0)
        reports.append(json.loads(Path(name[0], "report.json").read_text()))
    found, expected = (report["metrics"] for report in reports)
    assert found.keys() == expected.keys()
    for key, metric in expected.items():
        assert found[key]["value"] == pytest.approx(metric["value"], abs=1e-4), key
    assert reports[0]["cost"]["file_bytes"] == file.stat().st_size


def test_evaluate_refuses_what_needs_a_checkpoint(
    place: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(place / "best.onnx", tmp_path)
    for words, message in (
        (["--explain", "3"], "--explain needs a checkpoint, and best.onnx is an exported file; leave it out."),
        (["--save_temperature"], "A calibration is stored in a checkpoint, and best.onnx is an exported file"),
    ):
        with pytest.raises(SystemExit):
            cli("evaluate", "best.onnx", "--data.root", "sample", *words)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "split", "number"),
    [
        (["best.onnx", "best.ckpt"], "val", 6),
        pytest.param(["best.ckpt", "best.onnx"], "val", 6, marks=pytest.mark.slow),
        pytest.param(["best.onnx", "best.ckpt"], "all", 30, marks=pytest.mark.slow),
    ],
)
def test_evaluate_compares_a_file_with_the_checkpoint_on_the_images_of_its_run(
    place: Path,
    make_folder: Callable[..., Path],
    cli: Cli,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    split: str,
    number: int,
) -> None:
    images = make_folder(tmp_path / "images", {".": 10}, classes=("bag", "coat", "sandal"))
    for old, new in zip(("bag", "coat", "sandal"), CLASSES, strict=True):
        (images / old).rename(images / new)
    shutil.copy(place / "best.onnx", tmp_path)
    checkpoint = torch.load(place / "best.ckpt", weights_only=True)
    rules = {"val_fraction": 0.2, "seed": 0, "num_folds": None, "fold": 0, "per_class": None}
    run = {"data.root": str(images)} | {f"data.split.{key}": value for key, value in rules.items()}
    torch.save(checkpoint | {"run": run}, tmp_path / "best.ckpt")
    words = ["--split", split, "--resamples", 100, "--data.num_workers", 0, "--table", "csv"]
    cli("evaluate", *names, *words, "--output", "both")
    output = capsys.readouterr().out
    assert f"Images:     {number} images of 3 classes" in output
    assert ", +0.0000 (+0.0000 to +0.0000), McNemar's p 1\n" in output
    first, second = (
        list(csv.reader(Path(f"both/predictions{end}.csv").read_text().splitlines())) for end in ("", "_2")
    )
    assert [row[:3] for row in first] == [row[:3] for row in second]
    assert len(first) == number + 1
