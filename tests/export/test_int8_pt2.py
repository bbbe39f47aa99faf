"""``export --int8`` to graphs of torch.export and to AOTInductor, which needs torchao."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli import main
from inceptionnext_lit.export import formats
from inceptionnext_lit.export.archive import has_int8, has_machine_code
from inceptionnext_lit.export.int8 import scores
from tests.small_checkpoint import save_checkpoint

pytest.importorskip(
    "torchao.quantization.pt2e.quantize_pt2e", reason="this torchao needs a newer torch", exc_type=ImportError
)
MakeFolder = Callable[..., Path]
LABELS = ["bag", "coat", "sandal"]
WORDS = ["--int8", "images", "--calibration_images", "40", "--max_drop", "5", "--dynamic", "batch"]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory, make_folder: MakeFolder) -> Path:
    """A folder with a checkpoint, its int8 file and images."""
    folder = tmp_path_factory.mktemp("quantized")
    save_checkpoint(folder / "best.ckpt", LABELS, kwargs={"depth": 1, "dim": 32})
    make_folder(folder / "images", {"train": 20, "val": 70})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(scores, "_SECONDS", 0.0)
        main(["export", "best.ckpt", "--format", "pt2", "--output", "small.pt2", *WORDS])
    return folder


def assert_close(file: Path, checkpoint: Path, paths: list[str]) -> None:
    found = load_classifier(file).predict(paths)
    expected = load_classifier(checkpoint, device="cpu").predict(paths)
    differences = [abs(one.probability - other.top5[one.label]) for one, other in zip(found, expected, strict=True)]
    assert 0 < max(differences) < 0.1
    assert sum(one.label == other.label for one, other in zip(found, expected, strict=True)) >= 0.9 * len(paths)


def images_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted((folder / "images/val").rglob("*.png"))[::7]]


def test_only_the_network_is_quantized(quantized: Path) -> None:
    import torch.ao.quantization.fx  # defines the operators

    with (quantized / "small.pt2").open("rb") as file:
        program = torch.export.load(file)
    weights = 0
    for node in program.graph.nodes:
        name = str(node.target)
        if name.startswith(("aten.conv2d", "aten.linear")):
            assert str(node.args[0].target) == "quantized_decomposed.dequantize_per_tensor.default"
            assert str(node.args[1].target) == "quantized_decomposed.dequantize_per_channel.default"
            weights += 1
        elif name.startswith(("aten.softmax", "aten.sub", "aten.div")):
            assert "quantized" not in str(node.args[0].target)
    assert weights == 7  # stem, three depthwise convolutions, fc1, fc2 and the head
    kept = [tensor for tensor in program.state_dict.values() if tensor.ndim >= 2]
    assert [tensor.dtype for tensor in kept if tensor.dtype != torch.float32] == [torch.int8] * 7
    assert all(tensor.numel() <= 3 for tensor in kept if tensor.dtype == torch.float32)  # mean and std
    cat = next(node for node in program.graph.nodes if str(node.target).startswith("aten.cat"))
    scales = {node.args[1:3] for node in (*cat.args[0], *cat.users)}
    assert len(scales) == 1  # so that its inputs can be bytes


def test_metadata(quantized: Path) -> None:
    found = json.loads((quantized / "small.pt2.json").read_text())
    assert found["check"]["max_probability_difference"] < 1e-5
    int8 = found["int8"]
    assert int8["layers"] == 7
    assert int8["method"].startswith("torchao PT2E: weights in int8, symmetric, per output channel;")
    check = int8["check"]
    assert (check["images"], check["metric"], check["judged_by"]) == (210, "top-1", "measured")
    assert check["drop"] == pytest.approx(check["before"] - check["after"], abs=1e-3)
    assert has_int8(quantized / "small.pt2")
    assert not has_machine_code(quantized / "small.pt2")


def test_the_probabilities_are_close_to_the_checkpoint(quantized: Path) -> None:
    assert_close(quantized / "small.pt2", quantized / "best.ckpt", images_of(quantized))


@pytest.mark.slow
def test_it_runs_without_torchao(quantized: Path) -> None:
    code = (
        "import sys; from inceptionnext_lit import load_classifier; import numpy as np; "
        "print(load_classifier('small.pt2').predict(np.zeros((28, 28, 3), np.uint8))[0].label); "
        "print('torchao' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=quantized)
    label, loaded = done.stdout.splitlines()
    assert label in LABELS
    assert loaded == "False"
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers"), [("inceptionnext_atto", 66), ("deit_tiny_patch16_224", 50)])
def test_other_models(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layers: int
) -> None:
    """With several labels, features, and one image at a time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    kwargs = {"img_size": 64} if name.startswith("deit") else {}
    steps = {"image_size": 64}
    save_checkpoint(tmp_path / "best.ckpt", LABELS, name=name, kwargs=kwargs, preprocessing=steps, multi_label=True)
    make_folder(tmp_path / "images", {"train": 20, "val": 20})
    words = ["--int8", "images", "--features", "--dynamic", "none", "--max_drop", "90", "--format", "pt2"]
    main(["export", "best.ckpt", "--output", "small.pt2", *words])
    found = json.loads(Path("small.pt2.json").read_text())
    assert found["outputs"] == ["probabilities", "features"]
    assert (found["int8"]["layers"], found["int8"]["check"]["metric"]) == (layers, "mAP")
    paths = images_of(tmp_path)
    ours, theirs = (
        load_classifier("small.pt2").predict(paths),
        load_classifier("best.ckpt", device="cpu").predict(paths),
    )
    differences = [
        abs(one.top5[name] - other.top5[name]) for one, other in zip(ours, theirs, strict=True) for name in LABELS
    ]
    assert 0 < max(differences) < 0.25


@pytest.mark.slow
def test_compiled(quantized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Machine code with oneDNN's int8 kernels, whose layers are chosen with graphs."""
    monkeypatch.chdir(quantized)
    monkeypatch.setattr(scores, "_SECONDS", 0.0)
    main(["export", "best.ckpt", "--format", "aoti", "--output", "fast.pt2", *WORDS, "--overwrite"])
    assert "Compiling the AOTInductor file in int8, which takes minutes" in capsys.readouterr().out
    assert has_machine_code(Path("fast.pt2"))
    assert_close(Path("fast.pt2"), Path("best.ckpt"), images_of(quantized))
    fast, plain = (load_classifier(name).predict(images_of(quantized)) for name in ("fast.pt2", "small.pt2"))
    for one, other in zip(fast, plain, strict=True):
        assert one.top5[other.label] == pytest.approx(other.probability, abs=0.01)
    with zipfile.ZipFile("fast.pt2") as archive:
        assert any(b"qconv" in archive.read(name) for name in archive.namelist())


def test_torchao_for_another_torch(
    quantized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(quantized)
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e.quantize_pt2e", None)
    with pytest.raises(SystemExit):
        main(["export", "best.ckpt", "--format", "pt2", "--output", "x.pt2", "--int8", "images"])
    message = capsys.readouterr().err
    assert re.search(
        r"^error: torchao [\d.]+\S* cannot be imported with torch [\d.]+\S* \(.+\); ", message, re.MULTILINE
    )
    assert message.endswith("install a newer torch, or the release of torchao for this one.\n")
    assert not Path("x.pt2").exists()


def test_torchao_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "best.ckpt", LABELS, kwargs={"depth": 1, "dim": 16})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "torchao" else object())
    with pytest.raises(SystemExit):
        main(["export", "best.ckpt", "--format", "pt2", "--output", "x.pt2", "--int8", "sample"])
    message = "torch.export in int8 needs torchao; install it with pip install 'inceptionnext-lit[int8]'."
    assert message in capsys.readouterr().err
