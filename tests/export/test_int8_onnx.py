"""``export --int8`` to ONNX."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli import main
from inceptionnext_lit.export import formats
from inceptionnext_lit.export.int8 import scores
from inceptionnext_lit.export.int8.accuracy import Drop
from inceptionnext_lit.export.int8.quantizer import Quantizer
from inceptionnext_lit.export.int8.search import Search
from inceptionnext_lit.serve.labeling import Labeler
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
MakeFolder = Callable[..., Path]
LABELS = ["bag", "coat", "sandal"]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, make_folder: MakeFolder) -> Path:
    """A folder with a checkpoint, its int8 file and images."""
    folder = tmp_path_factory.mktemp("quantized")
    save_checkpoint(folder / "best.ckpt", LABELS, kwargs={"depth": 1, "dim": 32})
    make_folder(folder / "images", {"train": 20, "val": 70})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(scores, "_SECONDS", 0.0)
        words = ["--int8", "images", "--calibration_images", "40", "--features", "--max_drop", "5"]
        main(["export", "best.ckpt", "--format", "onnx", "--output", "small.onnx", *words])
    return folder


def test_only_the_network_is_quantized(quantized: Path) -> None:
    model = onnx.load(quantized / "small.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    consumers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node.op_type)
    quantized_weights = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert {producers[name].op_type for name in node.input} == {"DequantizeLinear"}
            codes, scale, zero = (weights[name] for name in producers[node.input[1]].input)
            assert codes.data_type == onnx.TensorProto.INT8
            assert list(scale.dims) == [codes.dims[0]]
            assert not onnx.numpy_helper.to_array(zero).any()
            quantized_weights += 1
        elif node.op_type in ("MatMul", "Softmax"):  # of the preprocessing; of the output
            assert "DequantizeLinear" not in [producers[name].op_type for name in node.input if name in producers]
    assert quantized_weights == 7  # stem, three depthwise convolutions, fc1, fc2 and the head
    assert {output.name for output in model.graph.output} == {"probabilities", "features"}


def test_metadata(quantized: Path) -> None:
    found = json.loads((quantized / "small.onnx.json").read_text())
    assert found["check"]["max_probability_difference"] < 1e-5
    assert found["check"]["file"] == "in floats, before int8"
    int8 = found["int8"]
    assert int8["layers"] == 7
    assert int8["calibration"] == {"source": "images", "images": 40}
    assert (int8["max_drop"], int8["min_agreement"]) == (5, None)
    check = int8["check"]
    assert (check["images"], check["metric"], check["judged_by"]) == (210, "top-1", "measured")
    assert check["drop"] == pytest.approx(check["before"] - check["after"], abs=1e-3)
    assert check["drop"] <= 5
    assert int8["file_bytes"]["int8"] == pytest.approx((quantized / "small.onnx").stat().st_size, abs=6000)
    assert int8["images_per_second"]["float"] > 0
    assert sorted(path.name for path in quantized.iterdir()) == ["best.ckpt", "images", "small.onnx", "small.onnx.json"]


def test_the_probabilities_are_close_to_the_checkpoint(quantized: Path) -> None:
    paths = [str(path) for path in sorted((quantized / "images/val").rglob("*.png"))[::7]]
    found = load_classifier(quantized / "small.onnx").predict(paths)
    expected = load_classifier(quantized / "best.ckpt", device="cpu").predict(paths)
    differences = [abs(one.probability - other.top5[one.label]) for one, other in zip(found, expected, strict=True)]
    assert 0 < max(differences) < 0.1
    assert sum(one.label == other.label for one, other in zip(found, expected, strict=True)) >= 0.9 * len(paths)


@pytest.mark.slow
def test_smoothing_is_tried_for_the_labels_that_change(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(quantized)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    drop, output = Search._measured, tmp_path / "smoothed.onnx"

    def first_is_bad(self: Search, file: Path, quantizer: Quantizer, layers: Collection[str]) -> Drop:
        found = drop(self, file, quantizer, layers)
        return found if "SmoothQuant" in quantizer.method else replace(found, agreement=50.0)

    monkeypatch.setattr(Search, "_measured", first_is_bad)
    words = ["--int8", "images", "--calibration_images", "40", "--max_drop", "5", "--min_agreement", "85"]
    main(["export", "best.ckpt", "--format", "onnx", "--output", str(output), *words])
    said = capsys.readouterr().out
    assert ": accepted" in said
    assert "int8: 7 layers, smoothed by SmoothQuant; calibrated on 40 images of images" in said
    found = json.loads(Path(f"{output}.json").read_text())["int8"]
    assert (found["min_agreement"], found["check"]["float_layers"]) == (85, [])
    assert found["method"].endswith("; SmoothQuant with alpha 0.15")
    smoothing = found["check"]["smoothing"]
    assert (smoothing["used"], smoothing["without"]["agreement"]) == (True, 50.0)
    assert smoothing["with"]["agreement"] == found["check"]["agreement"] >= 85
    nodes = [node.op_type for node in onnx.load(output).graph.node]
    plain = [node.op_type for node in onnx.load("small.onnx").graph.node]
    assert nodes.count("Mul") == plain.count("Mul") + 4  # stem, fc1, fc2 and the head
    assert nodes.count("Conv") == plain.count("Conv")
    paths = [str(path) for path in sorted(Path("images/val").rglob("*.png"))[::7]]
    ours, theirs = load_classifier(output).predict(paths), load_classifier("best.ckpt", device="cpu").predict(paths)
    assert sum(one.label == other.label for one, other in zip(ours, theirs, strict=True)) >= 0.9 * len(paths)


def test_it_runs_without_torch(quantized: Path) -> None:
    code = (
        "import sys; from inceptionnext_lit import load_classifier; import numpy as np; "
        "print(load_classifier('small.onnx').predict(np.zeros((28, 28, 3), np.uint8))[0].label); "
        "print({'torch', 'timm', 'lightning', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=quantized)
    label, loaded = done.stdout.splitlines()
    assert label in LABELS
    assert loaded == "set()"


def test_evaluate_and_predict(quantized: Path, cli: Cli, tmp_path: Path) -> None:
    check = json.loads((quantized / "small.onnx.json").read_text())["int8"]["check"]
    words = ["--data.root", quantized / "images", "--split", "val", "--resamples", 100, "--data.num_workers", 0]
    cli("evaluate", quantized / "small.onnx", *words, "--output", "report")
    report = json.loads(Path("report/report.json").read_text())
    assert 100 * report["metrics"]["acc1"]["value"] == pytest.approx(check["after"], abs=0.01)
    cli("predict", quantized / "small.onnx", quantized / "images/val/bag", "--output", "a.csv")
    assert len(Path("a.csv").read_text().splitlines()) == 71


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "safetensors"], "--int8 does not apply to --format safetensors"),
        (["--max_drop", "0"], "'0' is not a number of percentage points above 0 and up to 100"),
        (["--max_drop", "nan"], "'nan' is not a number of percentage points"),
        (["--min_agreement", "101"], "'101' is not a share in percent above 0 and up to 100"),
        (["--calibration_images", "0"], "'0' is not a number of images"),
        (["--int8", "nowhere"], "nowhere does not exist."),
        (["--int8", "images/val/bag/*.jpg"], "No images that match images/val/bag/*.jpg."),
    ],
)
def test_refusals(
    quantized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(quantized)
    before = sorted(quantized.rglob("*"))
    given = ["--format", "onnx", "--output", "new.onnx", "--int8", "images", *words]
    with pytest.raises(SystemExit) as stop:
        main(["export", "best.ckpt", *given])
    assert stop.value.code in (1, 2)
    assert message in capsys.readouterr().err
    assert sorted(quantized.rglob("*")) == before


def test_options_of_int8_alone(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("--max_drop", "--min_agreement", "--calibration_images"):
        with pytest.raises(SystemExit):
            cli("export", "best.ckpt", "--format", "onnx", "--output", "x.onnx", key, "1")
        assert f"error: {key}: it is for --int8; give a folder of images with --int8" in capsys.readouterr().err


def test_formats_without_int8(
    quantized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(quantized)
    monkeypatch.setattr(formats, "find_spec", lambda name: object())
    with pytest.raises(SystemExit):
        main(["export", "best.ckpt", "--format", "executorch", "--output", "new.pte", "--int8", "images"])
    message = "--int8 does not apply to --format executorch; give one of onnx, openvino, pt2, aoti."
    assert message in capsys.readouterr().err
    assert not Path("new.pte").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["several labels", "gray"])
def test_other_models_are_served(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With thresholds of each label, and with images of one channel as tensors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    images = make_folder(tmp_path / "images", {".": 20})
    if kind == "gray":
        arguments = {"kwargs": {"depth": 1, "dim": 32, "in_chans": 1}, "preprocessing": {"mean": [0.4], "std": [0.2]}}
        folder = str(images)
    else:
        calibration = {"temperature": 1.7, "thresholds": [0.3, 0.5, 0.6]}
        arguments = {"kwargs": {"depth": 1, "dim": 32}, "multi_label": True, "calibration": calibration}
        folder = "images.csv"
        lines = [f"{path},{path.parent.name}|bag" for path in sorted(images.rglob("*.png"))]
        Path(folder).write_text("\n".join(["path,labels", *lines]))
    save_checkpoint(tmp_path / "best.ckpt", LABELS, **arguments)  # type: ignore[arg-type]
    main(["export", "best.ckpt", "--format", "onnx", "--output", "x.onnx", "--int8", folder, "--max_drop", "20"])
    found = json.loads(Path("x.onnx.json").read_text())
    assert found["input"] == ("tensor" if kind == "gray" else "pixels")
    assert found["int8"]["check"]["metric"] == ("top-1" if kind == "gray" else "mAP")
    contents = [path.read_bytes() for path in sorted(images.rglob("*.png"))[::10]]
    answers = []
    for file in ("x.onnx", "best.ckpt"):
        labeler = Labeler(load_classifier(file, device="cpu"), 10**6)  # type: ignore[arg-type]
        [(pictures, _)] = labeler.groups(contents)
        answers.append([answer.row["top5"] for answer in labeler.label(pictures) if answer.row is not None])
    assert len(answers[0]) == len(contents)
    for ours, theirs in zip(*answers, strict=True):
        for name in LABELS:
            assert ours[name] == pytest.approx(theirs[name], abs=0.1)
