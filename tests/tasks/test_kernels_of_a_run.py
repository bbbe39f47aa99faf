"""``model.execution.kernels``: what a run chooses, prints, stores and continues with. Kernels and times are fakes."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.models.kernels.choice import units
from inceptionnext_lit.models.mixers import InceptionDWConv2d
from inceptionnext_lit.tasks import ClassificationTask
from tests.recipes import REPO, SMALL

Cli = Callable[..., None]
LINE = "Kernels:    "
TASKS: list[ClassificationTask] = []
LAYERS = ["blocks.0", "blocks.1"]


class Times:
    """A timer that counts its calls."""

    def __init__(self, torch_ms: float, triton_ms: float) -> None:
        self.times = {"torch": torch_ms, "triton": triton_ms}
        self.calls = 0

    def __call__(self, steps: Mapping[str, Any], device: torch.device) -> dict[str, float]:
        self.calls += 1
        assert list(steps) == ["torch", "triton"]
        return self.times


@pytest.fixture
def can_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let kernels run on this CPU: a mixer with a kernel then computes what torch's form does."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("inceptionnext_lit.tasks.kernels.why_not", lambda device: "")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, can_run: None) -> Times:
    fake = Times(3.0, 1.5)
    monkeypatch.setattr("inceptionnext_lit.tasks.kernels.time_alternately", fake)
    return fake


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    return [
        "fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 1, "--model.kwargs",
        "{depth: 2, dim: 32}", "--trainer.accelerator", "cpu", "--model.ema_decay", 0.9,
    ]  # fmt: skip


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line[len(LINE) :] for line in capsys.readouterr().out.splitlines() if line.startswith(LINE)]


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClassificationTask]]:
    """Record the task of each run."""
    setup = ClassificationTask.setup

    def noting(task: ClassificationTask, stage: str) -> None:
        TASKS.append(task)
        setup(task, stage)

    monkeypatch.setattr(ClassificationTask, "setup", noting)
    yield TASKS
    TASKS.clear()


def forms() -> set[str]:
    """Return the forms in the last run's model and its average."""
    models = (TASKS[-1].model, TASKS[-1].model_ema.module)
    return {block.token_mixer.kernels for model in models for block in units(model).values()}


def checkpoint(path: Path, version: int = 0) -> dict[str, Any]:
    stored = torch.load(path / f"runs/quickstart/version_{version}/checkpoints/last.ckpt", weights_only=True)
    assert isinstance(stored, dict)
    return stored


def test_the_faster_form_is_chosen_and_continued(
    cli: Cli, words: list[object], times: Times, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--model.execution.kernels", "auto"]
    cli(*words)
    table = tmp_path / "runs/quickstart/version_0/kernels.csv"
    expected = "Triton for 2 of 2 mixers, there 2.00 times as fast as torch's form; details in "
    assert lines(capsys) == [f"{expected}runs/quickstart/version_0/kernels.csv"]
    assert forms() == {"triton"}
    with table.open() as file:
        [row] = csv.DictReader(file)
    assert row == {
        "layers": " ".join(LAYERS), "kernels": "3×3:4 1×11:4 11×1:4",
        "shape": "6×32×7×7", "dtype": "float32", "form": "triton", "torch_ms": "3.0000", "triton_ms": "1.5000",
        "reason": "faster",
    }  # fmt: skip
    stored = checkpoint(tmp_path)["kernels"]
    assert stored["asked"] == "auto"
    assert stored["rows"][0]["layers"] == LAYERS
    assert stored["rows"][0]["form"] == "triton"
    [known] = json.loads((tmp_path / "cache/kernels.json").read_text()).values()
    assert known == {"torch": 3.0, "triton": 1.5}
    # whatever is remembered meanwhile
    remembered = json.loads((tmp_path / "cache/kernels.json").read_text())
    slow = {key: {"torch": 1.0, "triton": 9.0} for key in remembered}
    (tmp_path / "cache/kernels.json").write_text(json.dumps(slow))
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert lines(capsys) == [f"{expected}runs/quickstart/version_0/kernels.csv"]
    assert forms() == {"triton"}
    assert times.calls == 1
    with table.open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["as in the checkpoint's run"]
    assert checkpoint(tmp_path)["kernels"]["rows"][0]["form"] == "triton"
    # a new run uses what is remembered
    cli(*words)
    assert times.calls == 1
    assert lines(capsys) == ["Triton for 0 of 2 mixers; details in runs/quickstart/version_1/kernels.csv"]
    assert forms() == {"torch"}


@pytest.mark.slow
def test_choosing_does_not_change_the_run(cli: Cli, words: list[object], times: Times, tmp_path: Path) -> None:
    words = [*words, "--model.drop_path", 0.3, "--model.loss.mix.mixup", 0.5]
    cli(*words)
    for number, ms in ((1, 9.0), (2, 1.0)):
        times.times = {"torch": 3.0, "triton": ms}
        cli(*words, "--model.execution.kernels", "auto")
        (tmp_path / "cache/kernels.json").unlink()
        assert forms() == {"torch" if ms > 3 else "triton"}
        plain, chosen = checkpoint(tmp_path), checkpoint(tmp_path, number)
        assert plain["state_dict"].keys() == chosen["state_dict"].keys()
        assert all(torch.equal(value, chosen["state_dict"][key]) for key, value in plain["state_dict"].items())
        assert plain["loops"] == chosen["loops"]
    assert "kernels" not in plain
    assert times.calls == 2


@pytest.mark.slow
def test_a_changed_option_wins(
    cli: Cli, words: list[object], times: Times, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*words, "--model.execution.kernels", "auto")
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last", "--model.execution.kernels", "torch")
    assert forms() == {"torch"}
    assert "Changed:    model.execution.kernels auto → torch" in (printed := capsys.readouterr().out)
    assert printed.count(LINE) == 1
    cli(*words, "--trainer.max_epochs", 3, "--ckpt_path", "last", "--model.execution.kernels", "triton")
    assert lines(capsys) == ["Triton for 2 of 2 mixers; details in runs/quickstart/version_0/kernels.csv"]
    assert forms() == {"triton"}
    times.times = {"torch": 1.0, "triton": 1.0}
    (tmp_path / "cache/kernels.json").unlink()
    cli(*words, "--trainer.max_epochs", 4, "--ckpt_path", "last", "--model.execution.kernels", "auto")
    assert times.calls == 2
    assert forms() == {"torch"}
    assert checkpoint(tmp_path)["kernels"]["rows"][0]["reason"] == "not faster"


@pytest.mark.slow
def test_a_run_continues_where_kernels_cannot_run(
    cli: Cli, words: list[object], times: Times, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = [*words, "--model.execution.kernels", "auto"]
    cli(*words)
    monkeypatch.setattr("inceptionnext_lit.tasks.kernels.why_not", lambda device: "no CUDA device")
    capsys.readouterr()
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert lines(capsys) == ["torch's form of the mixers: no CUDA device"]
    assert forms() == {"torch"}
    path = tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt"
    cli("validate", "--ckpt_path", path, "--data.root", tmp_path / "data")
    cli("predict", tmp_path / "data/val", "--ckpt_path", path)
    cli("convert", path, "--output", "weights.safetensors")
    assert not lines(capsys)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize("asked", ["auto", "triton"])
def test_where_kernels_cannot_run(
    cli: Cli, words: list[object], asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cli(*words, "--model.execution.kernels", asked)
    [line] = lines(capsys)
    assert line in ("torch's form of the mixers: no CUDA device", "torch's form of the mixers: Triton is not installed")
    assert forms() == {"torch"}
    assert checkpoint(tmp_path)["kernels"] == {"asked": asked, "rows": []}
    assert not (tmp_path / "runs/quickstart/version_0/kernels.csv").exists()


def test_a_model_without_mixers(
    cli: Cli, words: list[object], can_run: None, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--model.name", "resnet10t", "--model.kwargs", "null", "--trainer.limit_train_batches", 1]
    cli(*words, *more, "--model.execution.kernels", "triton", "--trainer.limit_val_batches", 0)
    assert lines(capsys) == ["torch's form of the mixers: the model has no mixer that a kernel replaces"]


@pytest.mark.parametrize("asked", ["auto", "triton"])
def test_a_kernel_that_fails_is_not_used(
    cli: Cli, words: list[object], times: Times, asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    forward = InceptionDWConv2d.forward

    def failing(self: InceptionDWConv2d, x: torch.Tensor) -> torch.Tensor:
        if self.kernels == "triton":
            raise RuntimeError("out of resource: shared memory\nand more")
        return forward(self, x)

    monkeypatch.setattr(InceptionDWConv2d, "forward", failing)
    cli(*words, "--model.execution.kernels", asked)
    assert lines(capsys) == [
        "torch's form for 6×32×7×7 in float32, since the kernel fails: out of resource: shared memory",
        "Triton for 0 of 2 mixers; details in runs/quickstart/version_0/kernels.csv",
    ]
    assert forms() == {"torch"}
    assert times.calls == 0
    assert not (tmp_path / "cache/kernels.json").exists()


@pytest.mark.slow
def test_auto_does_not_time_a_deterministic_run(
    cli: Cli, words: list[object], times: Times, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--trainer.deterministic", "true"]
    try:
        cli(*words, "--model.execution.kernels", "auto")
        said = "torch's form of the mixers: auto depends on times, which differ between runs, and trainer.deterministic"
        assert lines(capsys) == [f"{said} is set"]
        cli(*words, "--model.execution.kernels", "triton")
        assert lines(capsys) == ["Triton for 2 of 2 mixers; details in runs/quickstart/version_1/kernels.csv"]
    finally:
        torch.use_deterministic_algorithms(False)
    assert forms() == {"triton"}
    assert times.calls == 0


def test_a_task_with_other_batches(
    cli: Cli, words: list[object], times: Times, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inceptionnext_lit.tasks.base.BaseTask.model_input", lambda self, batch: batch["image"])
    cli(*words, "--model.execution.kernels", "auto")
    [line] = lines(capsys)
    assert line.startswith("torch's form of the mixers: the first batch cannot be run (")


@pytest.mark.slow
def test_the_real_kernels_train(words: list[object], tmp_path: Path) -> None:
    """In Triton's interpreter, which runs them on the CPU; SGD's steps are as large as the gradients."""
    pytest.importorskip("triton")
    runs = {}
    for form in ("torch", "triton"):
        command = [*words, "--model.execution.kernels", form, "--model.optimizer.name", "sgd", "--run_name", form]
        command += ["--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1, "--model.lr", 0.05]
        done = subprocess.run(
            [sys.executable, REPO / "cli.py", *map(str, command)],
            cwd=tmp_path,
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (f"{LINE}Triton for 2 of 2 mixers; details in" in done.stdout) == (form == "triton")
        runs[form] = torch.load(tmp_path / f"runs/{form}/version_0/checkpoints/last.ckpt", weights_only=True)
    for key, value in runs["torch"]["state_dict"].items():
        torch.testing.assert_close(runs["triton"]["state_dict"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert any(
        not torch.equal(value, runs["triton"]["state_dict"][key]) for key, value in runs["torch"]["state_dict"].items()
    )
