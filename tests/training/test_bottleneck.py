"""The summary tells whether the loader or the model holds a run up, and what to do."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Dataset

from inceptionnext_lit.data.augmentation import LEVELS
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.bottleneck import WaitingClock, verdict
from inceptionnext_lit.training.checkpoints import LastCheckpoint
from inceptionnext_lit.training.summary import RunSummary


class Sleepy(Dataset[Any]):
    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(self.seconds)
        return torch.zeros(3, 28, 28), index % 3


class SlowModel(Callback):
    def on_train_batch_start(self, *args: Any) -> None:
        time.sleep(0.05)


class SlowValidation(Callback):
    def on_validation_batch_end(self, *args: Any) -> None:
        time.sleep(0.5)


def lines(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    data: Sleepy,
    *callbacks: Callback,
    workers: int = 0,
    **kwargs: Any,
) -> list[str]:
    loader = DataLoader(data, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
    task = ClassificationTask("inceptionnext_iso_micro", num_classes=3)
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


def test_a_slow_loader_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(20, 0.05))
    assert percent(line) >= 60  # 100 ms for a batch, and some milliseconds for a step of this model
    assert line.endswith(" of the time for images, which are loaded in the training process; set data.num_workers")


def test_a_slow_model_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(20, 0.0), SlowModel())
    assert re.fullmatch(r"Loader:     keeps up \(the model waits [0-4]% of the time\)", line)


def test_the_share_is_that_of_the_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """50 ms for a batch and 50 ms and more for a step; half a second of validation counts on neither side."""
    data = Sleepy(40, 0.025)
    [line] = lines(capsys, tmp_path, data, SlowModel(), SlowValidation(), limit_val_batches=1, val_check_interval=5)
    assert 25 <= percent(line) <= 55


def test_workers_that_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, tmp_path, Sleepy(40, 0.1), workers=1)
    assert percent(line) >= 60
    assert "which are loaded in the training process" not in line


def test_a_long_run_says_it_with_the_estimate_and_only_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lines(capsys, tmp_path, Sleepy(200, 0.0), SlowModel(), max_epochs=1)
    assert first.startswith("Estimate:")
    assert second.startswith("Loader:     keeps up")


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
