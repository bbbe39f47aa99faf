"""What predict and serve say of faster forms on a CPU."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm

from inceptionnext_lit.cli.parsing.predict_options import faster_form
from inceptionnext_lit.predict import speed_hint as hints
from inceptionnext_lit.predict.speed_hint import GAINS, cpu_gain, speed_hint
from inceptionnext_lit.serve.model_process import ModelProcess
from inceptionnext_lit.serve.options import ServeOptions
from inceptionnext_lit.serve.worker import hint
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
FLAGS = {
    "AMX": "fpu avx2 avx_vnni avx512_vnni amx_int8",
    "AVX-512 VNNI": "fpu avx2 avx512f avx512_vnni",
    "AVX-VNNI": "fpu avx2 avx_vnni",
    "AVX2": "fpu avx avx2",
    None: "fpu sse4_2 avx",
}


@pytest.fixture
def fake_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the CPU other flags."""

    def change(flags: str) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor\t: 0\nmodel name\t: avx512_vnni\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        monkeypatch.setattr(hints, "CPU_FILE", file)

    return change


@pytest.mark.parametrize("name", FLAGS)
def test_instruction_sets(fake_cpu: Callable[[str], None], name: str | None) -> None:
    fake_cpu(FLAGS[name])
    gain = cpu_gain()
    assert (gain and gain.name) == name


def test_gains() -> None:
    assert [gain.name for gain in GAINS] == [name for name in FLAGS if name in {gain.name for gain in GAINS}]
    assert all(1.2 < gain.least <= gain.most < 10 for gain in GAINS)


def test_other_systems_and_models(
    fake_cpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_cpu(FLAGS["AMX"])
    ours = timm.create_model("inceptionnext_iso_micro", depth=1, dim=16)
    sentence = speed_hint(ours, "my runs/best.ckpt")
    assert sentence is not None
    amx = GAINS[0]
    assert sentence.startswith(f"Faster:     int8 in OpenVINO labels {amx.least:.1f} to {amx.most:.1f} times as many")
    assert sentence.endswith(" export 'my runs/best.ckpt' --format openvino --output best.xml --int8 TRAINING_IMAGES")
    assert speed_hint(timm.create_model("convnext_atto"), "best.ckpt") is None
    monkeypatch.setattr(hints, "CPU_FILE", tmp_path / "none")
    assert speed_hint(ours, "best.ckpt") is None


def test_when_predict_says_it(fake_cpu: Callable[[str], None], tmp_path: Path) -> None:
    fake_cpu(FLAGS["AMX"])
    task = save_checkpoint(tmp_path / "best.ckpt", ["ant", "bee"], kwargs={"depth": 1, "dim": 16})
    cpu = SimpleNamespace(root_device=SimpleNamespace(type="cpu"))

    def said(images: int = 100, checkpoint: str | None = "best.ckpt", **changes: Any) -> bool:
        trainer = SimpleNamespace(**({"precision": "32-true", "progress_bar_callback": 1, "strategy": cpu} | changes))
        return faster_form(task, trainer, images, checkpoint) is not None  # type: ignore[arg-type]

    assert said()
    assert not said(images=99)
    assert not said(checkpoint=None)
    assert not said(precision="bf16-true")
    assert not said(progress_bar_callback=None)
    assert not said(strategy=SimpleNamespace(root_device=SimpleNamespace(type="cuda")))
    task.compiles_prediction = True
    assert not said()


def test_when_serve_says_it(fake_cpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_cpu(FLAGS["AMX"])
    checkpoint = tmp_path / "best.ckpt"
    task = save_checkpoint(checkpoint, ["ant", "bee"], kwargs={"depth": 1, "dim": 16})
    classifier = SimpleNamespace(task=task, device=SimpleNamespace(type="cpu"))
    monkeypatch.setattr(sys, "argv", ["/bin/inceptionnext-lit", "serve", "best.ckpt"])
    options = ModelProcess(ServeOptions(str(checkpoint)))._options
    monkeypatch.setattr(sys, "argv", ["/lib/inceptionnext_lit/serve/worker.py", "{}"])  # of the model's process
    found = hint(classifier, options)
    assert found is not None
    assert f": inceptionnext-lit export {checkpoint} --format openvino" in found
    assert hint(classifier, {"model": "inceptionnext_tiny"}) is None
    assert hint(SimpleNamespace(), {"model": str(checkpoint)}) is None
    classifier.device.type = "cuda"
    assert hint(classifier, {"model": str(checkpoint)}) is None


@pytest.mark.slow
def test_the_command(
    fake_cpu: Callable[[str], None], sample: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_cpu(FLAGS["AMX"])
    save_checkpoint(tmp_path / "best.ckpt", ["ant", "bee"], kwargs={"depth": 1, "dim": 16})
    images = sorted(map(str, (sample / "val").rglob("*.png")))
    options = ["--ckpt_path", "best.ckpt", "--trainer.accelerator", "cpu", "--data.num_workers", 0]
    cli("predict", *images[:100], *options, "--output", "a.csv")
    assert capsys.readouterr().out.count(" export best.ckpt --format openvino --output best.xml --int8 ") == 1
    cli("predict", *images[:99], *options, "--output", "b.csv")
    assert "Faster:" not in capsys.readouterr().out
