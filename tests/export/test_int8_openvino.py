"""``export --int8`` to OpenVINO, which needs NNCF."""

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import openvino
import pytest

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli import main
from inceptionnext_lit.export import formats
from inceptionnext_lit.export.int8 import scores
from inceptionnext_lit.export.int8.accuracy import Drop
from inceptionnext_lit.export.int8.quantizer import Quantizer
from inceptionnext_lit.export.int8.search import Search
from tests.small_checkpoint import save_checkpoint

pytestmark = pytest.mark.slow
MakeFolder = Callable[..., Path]
LABELS = ["bag", "coat", "sandal"]


@pytest.mark.parametrize("name", ["inceptionnext_iso_micro", "deit_tiny_patch16_224"])
def test_only_the_network_is_quantized(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    is_attention = name.startswith("deit")
    kwargs = {"img_size": 64} if is_attention else {"depth": 1, "dim": 32}
    size = 64 if is_attention else 28
    save_checkpoint(tmp_path / "best.ckpt", LABELS, name=name, kwargs=kwargs, preprocessing={"image_size": size})
    make_folder(tmp_path / "images", {"train": 20, "val": 70})
    words = ["--int8", "images", "--calibration_images", "40", "--max_drop", "10", "--dynamic", "batch"]
    main(["export", "best.ckpt", "--format", "openvino", "--output", "small.xml", *words])
    found = json.loads(Path("small.xml.json").read_text())["int8"]
    assert found["layers"] == (50 if is_attention else 7)
    assert found["check"]["agreement"] > 85
    model = openvino.Core().read_model("small.xml")
    fakes = [op for op in model.get_ordered_ops() if op.get_type_name() == "FakeQuantize"]
    assert fakes
    names = {place.get_node().get_type_name() for op in fakes for place in op.output(0).get_target_inputs()}
    assert not names & {"Softmax", "Divide", "Floor"}
    weights = [
        op for op in model.get_ordered_ops() if op.get_type_name() == "Constant" and op.get_element_type().size == 1
    ]
    assert len([op for op in weights if len(op.get_output_shape(0)) >= 2]) == found["layers"]
    paths = [str(path) for path in sorted(Path("images/val").rglob("*.png"))[::10]]
    ours = load_classifier("small.xml").predict(paths)
    theirs = load_classifier("best.ckpt", device="cpu").predict(paths)
    differences = [abs(one.top5[other.label] - other.probability) for one, other in zip(ours, theirs, strict=True)]
    assert 0 < max(differences) < 0.25


def test_smoothing_is_tried_and_recorded(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    save_checkpoint(tmp_path / "best.ckpt", LABELS, kwargs={"depth": 1, "dim": 32})
    make_folder(tmp_path / "images", {"train": 20, "val": 70})
    drop = Search._measured

    def first_is_bad(self: Search, file: Path, quantizer: Quantizer, layers: Collection[str]) -> Drop:
        found = drop(self, file, quantizer, layers)
        return found if "SmoothQuant" in quantizer.method else replace(found, judged=50.0)

    monkeypatch.setattr(Search, "_measured", first_is_bad)
    words = ["--int8", "images", "--calibration_images", "40", "--max_drop", "10", "--dynamic", "batch"]
    main(["export", "best.ckpt", "--format", "openvino", "--output", "small.xml", *words])
    said = capsys.readouterr().out
    assert ": accepted" in said
    assert "int8: 7 layers, smoothed by SmoothQuant; calibrated on 40 images of images" in said
    found = json.loads(Path("small.xml.json").read_text())["int8"]
    assert found["method"].endswith("; SmoothQuant with alpha 0.15")
    assert found["check"]["float_layers"] == []
    smoothing = found["check"]["smoothing"]
    assert (smoothing["used"], smoothing["without"]["judged_drop"]) == (True, 50.0)
    assert smoothing["with"]["agreement"] == found["check"]["agreement"] > 85
    names = [op.get_friendly_name() for op in openvino.Core().read_model("small.xml").get_ordered_ops()]
    assert any("smooth_quant" in name for name in names)


def test_nncf_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "best.ckpt", LABELS, kwargs={"depth": 1, "dim": 16})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(SystemExit):
        main(["export", "best.ckpt", "--format", "openvino", "--output", "x.xml", "--int8", "sample"])
    message = "OpenVINO in int8 needs nncf; install it with pip install 'inceptionnext-lit[int8]'."
    assert message in capsys.readouterr().err
