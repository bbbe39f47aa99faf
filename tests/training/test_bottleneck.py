"""The summary tells whether the loader or the model limits a run, and what to do about it."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from inceptionnext_lit.data.transforms.augmentation import LEVELS
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training import bottleneck
from inceptionnext_lit.training import clock as timekeeping
from inceptionnext_lit.training.bottleneck import WaitingClock, verdict
from inceptionnext_lit.training.callbacks import progress
from inceptionnext_lit.training.callbacks.checkpoints import LastCheckpoint
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.callbacks.summary import RunSummary


class Clock:
    """A fake clock for waiting times, independent of the machine's load."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bottleneck, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_other_work_is_left_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timekeeping, "time", SimpleNamespace(monotonic=lambda: clock.now))
    summary = RunSummary()
    summary._clock.reset()
    summary._waiting.ask()
    clock.sleep(2)
    summary._waiting.receive()
    clock.sleep(30)
    summary.leave_out(29)
    clock.sleep(1)
    summary._waiting.ask()
    summary._clock.tick(8)
    assert (summary._waiting.waited, summary._waiting.worked) == (2, 2)
    assert summary._clock.images_per_s == 2
    bar = RunProgressBar()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    bar._run_start = clock.now
    clock.sleep(12)
    bar.leave_out(10)
    run = SimpleNamespace(global_step=1, estimated_stepping_batches=4)
    assert bar._time_left(cast(Any, run)) == "0:06"
    assert all(isinstance(one, timekeeping.Timekeeper) for one in (summary, bar))


class Sleepy(Dataset[Any]):
    def __init__(self, count: int, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self.count, self.seconds, self.sleep = count, seconds, sleep

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.sleep(self.seconds)
        return torch.zeros(3, 28, 28), index % 3


class SlowModel(Callback):
    def __init__(self, clock: Clock, seconds: float = 0.05) -> None:
        self.clock, self.seconds = clock, seconds

    def on_train_batch_start(self, *args: Any) -> None:
        self.clock.sleep(self.seconds)


class SlowValidation(SlowModel):
    def on_train_batch_start(self, *args: Any) -> None:
        pass

    def on_validation_batch_end(self, *args: Any) -> None:
        self.clock.sleep(self.seconds)


def lines(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    data: Sleepy,
    *callbacks: Callback,
    workers: int = 0,
    **kwargs: Any,
) -> list[str]:
    loader = DataLoader(data, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3))
    settings: dict[str, Any] = {"max_epochs": 2, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    trainer = Trainer(
        default_root_dir=folder, logger=False, accelerator="cpu", enable_model_summary=False,
        enable_progress_bar=False, callbacks=[RunSummary(), LastCheckpoint(), *callbacks], **(settings | kwargs),
    )  # fmt: skip
    trainer.fit(task, loader, loader)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(("Loader:", "Estimate:"))]


def percent(line: str) -> int:
    found = re.search(r"the model waits (\d+)% of the time", line)
    assert found is not None, line
    return int(found[1])


@pytest.mark.slow
def test_a_slow_loader_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(20, 0.05, clock.sleep), SlowModel(clock, 0.01))
    # 20 steps of 10 ms, and 100 ms for each batch except the first
    assert percent(line) == round(100 * 19 * 0.1 / (19 * 0.1 + 20 * 0.01))
    assert line.endswith(" of the time for images, which are loaded in the training process; set data.num_workers")


@pytest.mark.slow
def test_a_slow_model_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(20, 0.0005, clock.sleep), SlowModel(clock))
    assert line == "Loader:     keeps up (the model waits 2% of the time)"


@pytest.mark.slow
def test_validation_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    data, callbacks = Sleepy(40, 0.025, clock.sleep), (SlowModel(clock), SlowValidation(clock, 7.0))
    [line] = lines(capsys, tmp_path, data, *callbacks, limit_val_batches=1, val_check_interval=5)
    # 40 steps and batches of 50 ms; not counted are the run's first and those after 3 validations within an epoch
    assert percent(line) == round(100 * (40 - 1 - 2 * 3) / (40 + 40 - 1 - 2 * 3))


@pytest.mark.slow
def test_loader_processes_that_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(16, 0.1), workers=1)
    assert percent(line) >= 30  # in real time: 200 ms for a batch, and far less for a step of this model
    assert "which are loaded in the training process" not in line


@pytest.mark.slow
def test_a_long_run_says_it_with_the_estimate_and_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    first, second = lines(capsys, tmp_path, Sleepy(200, 0.0, clock.sleep), SlowModel(clock), max_epochs=1)
    assert first.startswith("Estimate:")
    assert second == "Loader:     keeps up (the model waits 0% of the time)"


def test_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert verdict(0.012, 2) == "keeps up (the model waits 1% of the time)"
    assert verdict(0.43, 2, LEVELS["strong"]) == (
        "the model waits 43% of the time for images; more data.num_workers (now 2 of 16 cores), smaller files, or "
        "data.augmentation light"
    )
    assert verdict(0.43, 2, LEVELS["light"]) == (
        "the model waits 43% of the time for images; more data.num_workers (now 2 of 16 cores), or smaller files"
    )
    assert verdict(0.43, 16) == "the model waits 43% of the time for images; more cores, or smaller files"


def test_the_first_batch_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = WaitingClock()
    steps = [(clock.begin_epoch, 9.0), (clock.receive, 3.0), (clock.ask, 1.0), (clock.receive, 3.0), (clock.ask, 0.0),
             (clock.begin_epoch, 2.0), (clock.receive, 0.0), (clock.ask, 0.0), (clock.pause, 50.0),
             (clock.receive, 1.0), (clock.ask, 0.0)]  # fmt: skip
    assert clock.share == 0.0
    for act, seconds in steps:
        act()
        now[0] += seconds
    assert (clock.waited, clock.worked) == (3.0, 7.0)
    assert clock.share == pytest.approx(0.3)
