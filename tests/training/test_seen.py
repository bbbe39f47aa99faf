"""What a run prints: summary, progress and estimate."""

import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.models.cost import count_model, image_macs
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training import clock
from inceptionnext_lit.training.callbacks import progress
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.callbacks.summary import RunSummary
from inceptionnext_lit.training.schedule import Schedule

INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)


class SlowValidation(Callback):
    def on_validation_batch_end(self, *args: Any) -> None:
        time.sleep(0.1)


class SlowTraining(Callback):
    def on_train_batch_start(self, *args: Any) -> None:
        time.sleep(0.02)


def run(folder: Path, *callbacks: Callback, count: int = 8, **kwargs: Any) -> Trainer:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(count, 3, 28, 28), torch.arange(count) % 3), batch_size=4)
    task = ClassificationTask(
        "inceptionnext_iso_micro",
        data_spec=DataSpec(num_classes=3, preprocessing=INPUT),
        lr=4e-3,
        schedule=Schedule(min_lr=1e-3),
    )
    settings: dict[str, Any] = {"max_epochs": 2, "logger": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    trainer = Trainer(
        default_root_dir=folder, enable_model_summary=False, callbacks=list(callbacks), **(settings | kwargs)
    )
    trainer.fit(task, loader, loader)
    return trainer


def test_summary_has_parameters_macs_steps_and_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = run(tmp_path, RunSummary(image_macs), RunProgressBar(), LastCheckpoint(), accumulate_grad_batches=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "Model:      inceptionnext_iso_micro, 0.06 M parameters, 0.00287 G multiply-adds an image, on cpu, 32-true"
    )
    assert lines[1] == (
        "Data:       8 training images of 3 classes; 8 a step = 4 × 1 device × 2 accumulated, lr 0.004 for them; "
        "2 epochs × 1 = 2 steps"
    )
    assert trainer.global_step == 2
    assert not [line for line in lines if line.startswith(("Estimate", "Continues"))]


def test_a_run_without_a_step_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, RunSummary(), LastCheckpoint(), max_epochs=0)
    assert capsys.readouterr().out.splitlines() == [
        "Nothing was trained: trainer.max_epochs, max_steps or limit_train_batches leave no steps to do."
    ]


def test_macs_are_those_of_the_budget() -> None:
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=1000), drop_path=0.1)
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    expected, _ = count_model("inceptionnext_iso_micro")
    random = torch.get_rng_state()
    assert image_macs(task.model, (3, 28, 28)) == expected.total.macs
    assert task.model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in task.model.state_dict().items())


def test_a_line_per_epoch_with_rate_and_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = BestCheckpoint("val/acc1")
    trainer = run(tmp_path, RunProgressBar(), best, max_epochs=3)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    bests, accuracies = [], []
    for line in lines:
        found = re.search(r"val/acc1 (\S+)  best val/acc1 (\S+)  lr (\S+)  \d+ img/s  \d+:\d\d left", line)
        assert found is not None, line
        accuracies.append(float(found[1]))
        bests.append(float(found[2]))
    assert bests == [max(accuracies[: i + 1]) for i in range(3)]
    assert bests[-1] == pytest.approx(float(best.best_model_score), abs=5e-4)
    trained = 1e-3 + (4e-3 - 1e-3) * (1 + math.cos(math.pi * 5 / 6)) / 2
    assert f"lr {trained:.2e}" in lines[-1]  # of the last of six steps, after which the schedule has ended
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3)


class Terminal(RunProgressBar):
    """A progress bar as on a terminal, updated in each step."""

    def __init__(self) -> None:
        super().__init__()
        self._refresh_rate = 5
        self.shown: list[dict[str, Any]] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        self._made_at = 0.0
        super().on_train_batch_end(trainer, pl_module, outputs, *args)
        self.shown.append(self.get_metrics(trainer, pl_module))
        self.losses.append(float(trainer.callback_metrics["train/loss_step"]))


def test_the_bar_shows_the_previous_loss_and_the_best_so_far(tmp_path: Path) -> None:
    bar, best = Terminal(), BestCheckpoint("val/acc1")
    run(tmp_path, bar, best, max_epochs=2, accumulate_grad_batches=2)
    assert len(bar.shown) == 4
    assert "loss" not in bar.shown[0]
    assert [values["loss"] for values in bar.shown[1:]] == pytest.approx(bar.losses[:3])
    assert all(values["lr"].endswith("e-03") and int(values["img/s"]) > 0 for values in bar.shown)
    assert ["best val/acc1" in values for values in bar.shown] == [False, False, True, True]
    assert 0 <= float(bar.shown[-1]["best val/acc1"]) <= 1


class Stopwatch(Callback):
    def on_train_start(self, *args: Any) -> None:
        self.began = time.monotonic()

    def on_train_end(self, *args: Any) -> None:
        self.seconds = time.monotonic() - self.began


@pytest.mark.slow
def test_validation_is_not_counted_as_training(tmp_path: Path) -> None:
    bar, watch = RunProgressBar(), Stopwatch()
    run(
        tmp_path, bar, watch, SlowTraining(), SlowValidation(),
        count=40, limit_val_batches=4, val_check_interval=5, max_epochs=1,
    )  # fmt: skip
    assert bar._clock.images == 40
    assert bar._clock.seconds >= 10 * 0.02
    assert bar._clock.seconds + 2 * 4 * 0.1 <= watch.seconds  # two validations, the first in the middle of the epoch


@pytest.mark.slow
def test_the_estimate_comes_after_fifty_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, RunSummary(), LastCheckpoint(), SlowTraining(), count=240, max_epochs=2, limit_val_batches=1)
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("Estimate:")]
    found = re.fullmatch(r"Estimate:   0:(\d\d) for 120 steps at (\d+) img/s", line)
    assert found is not None, line
    assert int(found[1]) == pytest.approx(120 * 4 / int(found[2]), abs=0.6)
    assert int(found[1]) >= 2  # 120 steps of at least 20 ms


@pytest.mark.parametrize(("seconds", "expected"), [(-1, 10), (3600, 0)])
def test_a_log_file_gets_lines_within_long_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", seconds)
    run(tmp_path, RunProgressBar(), count=40, max_epochs=1, limit_val_batches=0)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == expected
    for line in lines:
        assert re.fullmatch(r"step \d+ of 10  train/loss_step \d\.\d+  lr \S+  \d+ img/s  \d+:\d\d left", line), line


def test_durations() -> None:
    assert [clock.format_seconds(value) for value in (0.4, 59.6, 3599, 3600, 90061)] == [
        "0:00", "1:00", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip


class OtherModule(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_summary_of_another_lightning_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(
        max_epochs=1, logger=False, accelerator="cpu", callbacks=[RunSummary(image_macs), LastCheckpoint()],
        enable_model_summary=False, enable_progress_bar=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(OtherModule(), DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=4))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Model:      OtherModule, 0.00 M parameters, on cpu, 32-true"
    assert lines[1] == ("Data:       8 training images; 4 a step = 4 × 1 device × 1 accumulated; 1 epoch × 2 = 2 steps")
