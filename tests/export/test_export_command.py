"""The command ``export``, and its files in ONNX; the other formats are in test_export_formats.py."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from inceptionnext_lit.cli import main
from inceptionnext_lit.tasks.loading import load_task
from tests.export.conftest import CLASSES, Export
from tests.small_checkpoint import INPUT

Cli = Callable[..., None]


def metadata(file: Path) -> dict[str, object]:
    text = file.with_name(f"{file.name}.json").read_text(encoding="utf-8")
    stored = {one.key: one.value for one in onnx.load(file).metadata_props}
    assert stored == {"inceptionnext_lit": text}
    found: dict[str, object] = json.loads(text)
    return found


def test_metadata(place: Path) -> None:
    found = metadata(place / "best.onnx")
    check, versions = found.pop("check"), found.pop("versions")
    assert found == {
        "format_version": 1,
        "format": "onnx",
        "name": "inceptionnext_iso_micro",
        "class_names": CLASSES,
        "multi_label": False,
        "num_classes": 3,
        "input": "pixels",
        "preprocessing": dict(INPUT),
        "temperature": 1.0,
        "thresholds": None,
        "outputs": ["probabilities", "features"],
        "dynamic": ["batch", "size"],
        "license": "CC0-1.0",
        "source": {
            "file": "best.ckpt",
            "sha256": hashlib.sha256((place / "best.ckpt").read_bytes()).hexdigest(),
        },
    }
    assert check["images"] == check["same_labels"] == check["predict"]["same_labels"] == 64
    assert check["max_probability_difference"] < 1e-5
    assert check["max_feature_difference"] < 1e-5
    assert versions["torch"] == torch.__version__.partition("+")[0]
    assert {"inceptionnext_lit", "timm", "onnx", "onnxruntime"} <= versions.keys()
    assert sorted(path.name for path in place.iterdir()) == ["best.ckpt", "best.onnx", "best.onnx.json"]


def test_a_foreign_program_needs_nothing_but_the_file(place: Path) -> None:
    session = onnxruntime.InferenceSession(place / "best.onnx")
    [given] = session.get_inputs()
    assert (given.name, given.type, given.shape[3]) == ("images", "tensor(uint8)", 3)
    assert [one.name for one in session.get_outputs()] == ["probabilities", "features"]
    task, _ = load_task(place / "best.ckpt")
    task.eval()
    for height, width in ((28, 28), (28, 42)):
        pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
        scores, features = session.run(None, {"images": pixels})
        left = (width - 28) // 2
        images = torch.from_numpy(pixels[:, :, left : left + 28]).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            maps = task.model.forward_features((images - 0.5) / 0.25)
            expected = task.model.forward_head(maps).softmax(1), task.model.forward_head(maps, pre_logits=True)
        np.testing.assert_allclose(scores, expected[0], atol=1e-5)
        np.testing.assert_allclose(features, expected[1], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "best.onnx already exists; add --overwrite to replace it, or give another --output."),
        (["--output", "best.xml"], "--output is best.xml; it must end in .onnx."),
        (["--output", "gone/x.onnx", "--format", "nnx"], "--format: invalid choice: 'nnx'"),
        (["--dynamic", "width"], "--dynamic: 'width' is not a dimension; give batch, size, batch,size or none."),
        (["--model.name", "resnet18"], "--model.name: CKPT is given too; leave one of them out."),
        (["--model.pretrained", "true"], "--model.name: give the name of the model of --model.pretrained."),
        (["--format", "safetensors"], "best.onnx already exists"),
        (["--format", "safetensors", "--features"], "--features does not apply to --format safetensors"),
        (["--check", "nowhere", "--output", "new.onnx"], "nowhere does not exist."),
    ],
)
def test_refusals(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(SystemExit) as stop:
        main(["export", "best.ckpt", "--format", "onnx", "--output", "best.onnx", *words])
    assert stop.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_the_checkpoint_is_never_replaced(place: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "x.onnx").write_bytes((place / "best.ckpt").read_bytes())
    with pytest.raises(SystemExit):
        cli("export", "x.onnx", "--format", "onnx", "--output", "x.onnx", "--overwrite")
    assert (tmp_path / "x.onnx").read_bytes() == (place / "best.ckpt").read_bytes()


def test_pictures_of_the_embedded_set_get_their_labels(place: Path, sample: Path) -> None:
    session = onnxruntime.InferenceSession(place / "best.onnx")
    task, _ = load_task(place / "best.ckpt")
    for path in sorted((sample / "val").rglob("*.png"))[::100]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        with torch.no_grad():
            images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
            expected = task.eval().model((images - 0.5) / 0.25).softmax(1)
        np.testing.assert_allclose(session.run(None, {"images": pixels[None]})[0], expected, atol=1e-5)


def test_the_next_command_can_be_pasted(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    export("my ünï.onnx", "--format", "onnx")
    assert "predict 'my ünï.onnx' PHOTOS_OR_FOLDERS" in capsys.readouterr().out
