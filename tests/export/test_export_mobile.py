"""The formats of phones, whose libraries ``make test-mobile`` installs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inceptionnext_lit import load_classifier
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS
from tests.export.conftest import CALIBRATION, CLASSES, SMALL, Export, assert_same
from tests.export.test_export_formats import MODELS, STEPS

pytestmark = [pytest.mark.slow, pytest.mark.mobile]
RUN = [name for name in ("executorch", "litert") if FORMATS[name].runs_here]
ALL = ("executorch", "coreml", "litert")


def run(export: Export, one: str, /, *words: str, **arguments: Any) -> tuple[Path, dict[str, Any]]:
    """Export a small model, and return the file and its metadata."""
    file = export(f"x{FORMATS[one].suffix}", "--format", one, *words, **arguments)
    content: dict[str, Any] = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert content["check"]["predict"]["same_labels"] == 64
    assert content["check"]["max_probability_difference"] < 5e-5
    assert content["dynamic"] == []
    return file, content


@pytest.mark.parametrize("model", [*MODELS, "convnext_atto"])
@pytest.mark.parametrize("name", ALL)
def test_models(export: Export, photos: list[str], name: str, model: str) -> None:
    """From pixels, with features and several labels."""
    arguments = {"name": model, "kwargs": MODELS.get(model, {}), "preprocessing": STEPS, "calibration": CALIBRATION}
    file, content = run(export, name, "--features", multi_label=True, **arguments)
    assert content["check"]["max_feature_difference"] < 1e-4
    assert content["check"]["file_was_run"] is (FORMATS[name].runs_here)
    if FORMATS[name].runs_here:
        expected = load_classifier("best.ckpt", device="cpu").predict(photos)
        assert_same(load_classifier(file).predict(photos), expected)


@pytest.mark.parametrize("name", ALL)
def test_tensors(export: Export, photos: list[str], name: str) -> None:
    file, content = run(export, name, "--input", "tensor", calibration={"temperature": 0.6, "thresholds": None})
    assert content["outputs"] == ["logits"]
    if FORMATS[name].runs_here:
        expected = load_classifier("best.ckpt", device="cpu").predict(photos)
        assert_same(load_classifier(file).predict(photos), expected)


@pytest.mark.parametrize("name", ALL)
def test_other_channels(export: Export, name: str) -> None:
    steps = {"mean": [0.4] * 5, "std": [0.2] * 5}
    file, content = run(export, name, kwargs=SMALL | {"in_chans": 5}, preprocessing=steps)
    assert content["input"] == "tensor"
    if FORMATS[name].runs_here:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 33, 5), np.uint8)
        expected = load_classifier("best.ckpt", device="cpu").predict(list(pixels))
        assert_same(load_classifier(file).predict(list(pixels)), expected)


@pytest.mark.parametrize("name", RUN)
def test_strides_of_the_input_do_not_matter(export: Export, name: str) -> None:
    file, _ = run(export, name, "--input", "tensor")
    images = np.random.default_rng(0).standard_normal((1, 28, 28, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    session = FORMATS[name].open_session(file)
    np.testing.assert_array_equal(session.run(images)[0], session.run(np.ascontiguousarray(images))[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("varies", ["batch", "size", "batch,size"])
def test_what_may_not_vary(export: Export, capsys: pytest.CaptureFixture[str], name: str, varies: str) -> None:
    with pytest.raises(SystemExit):
        export(f"x{FORMATS[name].suffix}", "--format", name, "--dynamic", varies)
    named = varies.replace(",", " and the ")
    sentence = f"The {named} of {FORMATS[name].title} files cannot vary; give --dynamic none for this format."
    assert sentence in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("name", RUN)
def test_damaged_files(export: Export, name: str) -> None:
    file, _ = run(export, name)
    whole = file.read_bytes()
    reader = {"executorch": "ExecuTorch", "litert": "LiteRT"}[name]
    for damaged in (b"", b"text", whole[: len(whole) // 2], b"\x00" * 64 + whole[64:]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"x\{file.suffix} cannot be loaded by {reader}: "):
            load_classifier(file)


@pytest.mark.parametrize("name", RUN)
def test_evaluate(export: Export, make_folder: Callable[..., Path], cli: Callable[..., None], name: str) -> None:
    file, _ = run(export, name)
    images = make_folder(file.parent / "images", {".": 8}, classes=("bag", "coat", "sandal"))
    for old, new in zip(("bag", "coat", "sandal"), CLASSES, strict=True):
        (images / old).rename(images / new)
    reports = []
    for given in (file.name, "best.ckpt"):
        words = ["--data.root", images, "--output", f"{given}.report", "--resamples", 100, "--data.num_workers", 0]
        cli("evaluate", given, *words)
        reports.append(json.loads(Path(f"{given}.report", "report.json").read_text()))
    for key, metric in reports[1]["metrics"].items():
        assert reports[0]["metrics"][key]["value"] == pytest.approx(metric["value"], abs=1e-4), key


def test_executorch_returns_the_metadata(export: Export) -> None:
    from executorch.runtime import Runtime

    file, content = run(export, "executorch")
    program = Runtime.get().load_program(file)
    assert program.method_names == {"forward", "inceptionnext_lit"}
    assert json.loads(program.load_method("inceptionnext_lit").execute([])[0]) == content


def test_litert_has_the_metadata(export: Export) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    file, content = run(export, "litert", "--features")
    model = flatbuffer_utils.read_model(str(file))
    (found,) = [one for one in model.metadata if one.name == b"inceptionnext_lit"]
    assert json.loads(bytes(model.buffers[found.buffer].data)) == content


def test_litert_without_torch(export: Export, photos: list[str]) -> None:
    file, _ = run(export, "litert")
    code = (
        "import sys; from inceptionnext_lit import load_classifier; "
        f"print(load_classifier({str(file)!r}).predict({photos[0]!r})[0].label); "
        "print({'torch', 'timm', 'lightning', 'torchvision', 'litert_torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (expected,) = load_classifier("best.ckpt", device="cpu").predict(photos[0])
    assert done.stdout.splitlines()[-2:] == [expected.label, "set()"]


def test_core_ml(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    import coremltools

    file, content = run(export, "coreml", "--features", "--license", "CC0-1.0")
    assert ("Core ML runs on a Mac only, so the file itself was not run" in capsys.readouterr().out) is (
        sys.platform != "darwin"
    )
    description = coremltools.utils.load_spec(str(file)).description
    assert json.loads(description.metadata.userDefined["inceptionnext_lit"]) == content
    assert description.metadata.license == "CC0-1.0"
    (given,) = description.input
    assert (given.name, given.type.imageType.width, given.type.imageType.height) == ("images", 28, 28)
    assert [one.name for one in description.output] == ["probabilities", "features"]
    assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "x.mlpackage", "x.mlpackage.json"]
    with pytest.raises(SystemExit):
        run(export, "coreml")
    assert "x.mlpackage already exists; add --overwrite to replace it" in capsys.readouterr().err
    run(export, "coreml", "--input", "tensor", "--overwrite")
    (given,) = coremltools.utils.load_spec(str(file)).description.input
    assert list(given.type.multiArrayType.shape) == [1, 3, 28, 28]


def test_core_ml_weights_are_checked(
    export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight that differs in the file is found, though the file is not run."""
    import torch

    from inceptionnext_lit.export import coreml

    write = coreml.write

    def write_another(graph: Any, file: Path) -> None:
        with torch.no_grad():
            next(graph.model.model.parameters()).mul_(1.5)
        write(graph, file)

    monkeypatch.setattr(coreml, "write", write_another)
    with pytest.raises(SystemExit):
        export("x.mlpackage", "--format", "coreml")
    assert "error: The Core ML file differs from the checkpoint: its probabilities by " in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["best.ckpt"]
