"""Runs that are killed, receive a signal or fail, and what they leave."""

import csv
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inceptionnext_lit.training.callbacks import nan_guard as finite
from inceptionnext_lit.training.pending import Pending
from tests.forked import run_cli
from tests.recipes import SMALL

Cli = Callable[..., None]
SIGNALS = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 138, "SIGHUP": 129}
ONE_PROCESS = ["--trainer.devices", "1"]
TWO_PROCESSES = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "2"]


@pytest.fixture(scope="module")
def root(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images") / "data", {"train": 8, "val": 3})


def words(root: Path) -> list[str]:
    """Three epochs of four steps with all random augmentation; 24 images, 2 × 3 per step."""
    return [
        "fit", *SMALL, "--data.root", str(root), "--data.batch_size", "3", "--trainer.accumulate_grad_batches", "2",
        "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1",
        "--model.loss.mix.mixup", "0.8", "--model.drop_path", "0.3", "--model.ema_decay", "0.9",
        "--model.schedule.warmup_epochs", "1", "--checkpoint.every_n_steps", "2",
    ]  # fmt: skip


def at(moment: str, number: int, what: str, rank: int = 0) -> list[str]:
    place = "--trainer.callbacks"
    return [
        f"{place}+=tests.cli.moments.At", f"{place}.moment", moment, f"{place}.number", str(number),
        f"{place}.what", what, f"{place}.rank", str(rank),
    ]  # fmt: skip


def start(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = run_cli(arguments, folder)
    deadline = time.monotonic() + 30  # loader processes check for their parent every few seconds
    while mine := [p.pid for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(folder)]:
        assert time.monotonic() < deadline, f"orphans: {mine}"
        time.sleep(0.2)
    return done


def last(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    [path] = folder.glob(f"runs/quickstart/version_0/checkpoints/{name}")
    return torch.load(path, weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/quickstart/version_0/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return TensorBoard's curves."""
    events = EventAccumulator(str(folder / "runs/quickstart/version_0")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_run(folder: Path, whole: Path) -> None:
    """Check for bitwise equal weights, raw and averaged, and equal curves."""
    state, expected = last(folder), last(whole)
    assert state["global_step"] == expected["global_step"]
    assert state["state_dict"].keys() == expected["state_dict"].keys()
    for key, value in expected["state_dict"].items():
        assert torch.equal(state["state_dict"][key], value), key
    assert rows(folder) == rows(whole)
    assert len([row for row in rows(whole) if row["train/loss"]]) == 3
    assert points(folder) == points(whole)
    best, other = (last(run, "best.ckpt") for run in (folder, whole))
    assert best["global_step"] == other["global_step"]
    assert [path.name for path in (folder / "runs/quickstart").iterdir()] == ["version_0"]
    assert not list(folder.rglob("*.partial"))


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    done = start(folder, *words(root), *ONE_PROCESS)
    assert done.returncode == 0, done.stderr
    return folder


def continued(folder: Path, *arguments: object) -> str:
    done = start(folder, *arguments, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    return done.stdout


KILLS = [
    ("batch", 2, 0),  # before the first checkpoint
    ("batch", 11, 2),  # in the middle of an epoch and of an accumulation
    ("batch", 16, 0),  # an epoch's last batch
    ("validating", 2, 2),
    ("saving", 2, 0),  # the second save: last.ckpt of step 4, complete but not renamed yet
    ("saving", 4, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "number", "workers"), KILLS)
def test_killed_and_continued(root: Path, whole: Path, tmp_path: Path, moment: str, number: int, workers: int) -> None:
    run = [*words(root), *ONE_PROCESS, "--data.num_workers", workers]
    killed = start(tmp_path, *run, *at(moment, number, "SIGKILL"))
    assert killed.returncode == -signal.SIGKILL
    continued(tmp_path, *run)
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_killed_three_times(root: Path, whole: Path, tmp_path: Path) -> None:
    run = [*words(root), *ONE_PROCESS, "--ckpt_path", "last"]
    for moment, number in (("batch", 5), ("validating", 1), ("batch", 6)):
        assert start(tmp_path, *run, *at(moment, number, "SIGKILL")).returncode == -signal.SIGKILL
    continued(tmp_path, *run)
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "number"), [("batch", 7), ("batch", 8), ("saving", 3)])
def test_killed_and_continued_by_steps(root: Path, tmp_path: Path, moment: str, number: int) -> None:
    run = [*words(root), *ONE_PROCESS, "--trainer.max_epochs", -1, "--trainer.max_steps", 11]
    (tmp_path / "whole").mkdir()
    assert start(tmp_path / "whole", *run).returncode == 0
    assert start(tmp_path, *run, *at(moment, number, "SIGKILL")).returncode == -signal.SIGKILL
    continued(tmp_path, *run)
    for key, value in last(tmp_path / "whole")["state_dict"].items():
        assert torch.equal(last(tmp_path)["state_dict"][key], value), key
    assert last(tmp_path)["global_step"] == 11


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "moment", "number"), [(0, "batch", 7), (1, "batch", 7), (1, "validating", 2)])
def test_two_ranks_killed_and_continued(root: Path, tmp_path: Path, rank: int, moment: str, number: int) -> None:
    run = [*words(root), *TWO_PROCESSES]
    (tmp_path / "whole").mkdir()
    assert start(tmp_path / "whole", *run).returncode == 0
    (tmp_path / "killed").mkdir()
    killed = start(tmp_path / "killed", *run, *at(moment, number, "SIGKILL", rank))
    assert killed.returncode != 0
    assert time.time() - float((tmp_path / "killed/moment").read_text()) < 60  # as README says
    continued(tmp_path / "killed", *run)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        ("SIGTERM", "batch", 11),
        pytest.param("SIGINT", "batch", 10, marks=pytest.mark.slow),
        pytest.param("SIGHUP", "batch", 11, marks=pytest.mark.slow),
        pytest.param("SIGUSR1", "validating", 1, marks=pytest.mark.slow),
        pytest.param("SIGTERM", "batch", 8, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_within_a_batch_and_sets_the_exit_code(
    root: Path, whole: Path, tmp_path: Path, name: str, moment: str, number: int
) -> None:
    stopped = start(tmp_path, *words(root), *ONE_PROCESS, *at(moment, number, name))
    assert stopped.returncode == SIGNALS[name]
    assert f"Stopped by {name}; saved runs/quickstart/version_0/checkpoints/last.ckpt" in stopped.stdout
    assert "Traceback" not in stopped.stderr
    position = last(tmp_path)["position"]
    done = position["epoch"] * 8 + position["batches"]
    assert done == (number if moment == "batch" else 8)
    continued(tmp_path, *words(root), *ONE_PROCESS)
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_a_signal_to_one_of_two_ranks_stops_both(root: Path, tmp_path: Path) -> None:
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        stopped = start(folder, *words(root), *TWO_PROCESSES, *at("batch", 6, "SIGTERM", rank))
        assert stopped.returncode == 143
        assert stopped.stdout.count("Stopped by SIGTERM") == 1
        assert "Traceback" not in stopped.stderr
        assert last(folder)["global_step"] == 3


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one-line error of a run that fails in this process."""
    with pytest.raises(SystemExit) as exit_:
        cli(*arguments)
    assert exit_.value.code == 1
    output = capsys.readouterr().err
    assert "Traceback" not in output
    [error] = [line for line in output.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.slow
def test_a_full_disk(root: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(cli, capsys, *words(root), *ONE_PROCESS, *at("batch", 12, "full"))
    path = "runs/quickstart/version_0/metrics.csv"
    assert error.startswith(f"error: The metrics could not be written to {path}: No space left on device. ")
    assert "continue with --ckpt_path last" in error
    assert last(tmp_path)["global_step"] >= 4


@pytest.mark.slow
def test_a_nan_loss_stops_the_run(root: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(cli, capsys, *words(root), *ONE_PROCESS, *at("batch", 12, "nan"))
    assert "The training loss is nan in step 6 (epoch 2, batch 4, lr 0.00" in error
    assert error.count(f"{root}/train/") == 3
    stored = last(tmp_path)
    assert stored["global_step"] == 4
    assert all(value.isfinite().all() for value in stored["state_dict"].values())


class LateOnTheCpu(Pending):
    """A value that is available as late as a GPU's."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__(value)
        self.is_late = True


@pytest.mark.parametrize("every_n_steps", [pytest.param(2, marks=pytest.mark.slow), 100])
def test_a_nan_loss_that_is_read_a_batch_later_stops_the_run(
    root: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    every_n_steps: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(finite, "Pending", LateOnTheCpu)
    run = [*words(root), *ONE_PROCESS, "--checkpoint.every_n_steps", every_n_steps]
    error = refused(cli, capsys, *run, *at("batch", 12, "nan"))  # the batch before a save of every second step
    assert "The training loss is nan in step 6 (epoch 2, batch 4, lr 0.00" in error
    assert error.count(f"{root}/train/") == 3
    stored = last(tmp_path)
    assert stored["global_step"] == 4
    assert all(value.isfinite().all() for value in stored["state_dict"].values())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_nan_loss_on_one_rank_stops_all(root: Path, tmp_path: Path, rank: int) -> None:
    run = [*words(root), *TWO_PROCESSES, "--data.batch_size", 6, "--trainer.accumulate_grad_batches", 1]
    stopped = start(tmp_path, *run, *at("batch", 4, "nan", rank))
    assert stopped.returncode not in (0, -signal.SIGKILL)
    errors = [line for line in stopped.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert re.search(
        rf"loss is nan on rank {rank} in step 4 \(epoch 2, batch 2, .*and 3 more, all listed in", errors[0]
    )
    assert len((tmp_path / "runs/quickstart/version_0/not_finite.txt").read_text().splitlines()) == 6


@pytest.mark.slow
def test_out_of_memory(root: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(cli, capsys, *words(root), *ONE_PROCESS, *at("batch", 3, "memory"))
    assert error.startswith("error: Out of memory with batches of 3 images (data.batch_size)")
    assert "--data.batch_size 1" in error
    assert "--model.execution.grad_checkpointing true" in error


@pytest.mark.slow
def test_a_loader_process_that_dies(root: Path, tmp_path: Path) -> None:
    stopped = start(tmp_path, *words(root), *ONE_PROCESS, "--data.num_workers", 1, *at("batch", 3, "worker"))
    assert stopped.returncode == 1
    [error] = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert re.search(r"A loader process \(pid \d+\) has died", error)
    assert "--data.num_workers" in error


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_ended(root: Path, tmp_path: Path) -> None:
    run = [
        *words(root),
        *TWO_PROCESSES,
        "--strategy_timeout",
        90,
    ]  # enough for the second rank to start on a busy machine
    stopped = start(tmp_path, *run, *at("batch", 5, "SIGSTOP", 1))
    assert stopped.returncode == 1
    [error] = [line for line in stopped.stderr.splitlines() if line.startswith("error")]
    assert re.match(r"error: Rank 1 of 2 \(pid \d+ on \S+\) has not answered for \d:\d\d, so this run ends\.", error)
    assert "Traceback" not in stopped.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_rank_ends_all(root: Path, tmp_path: Path, rank: int) -> None:
    stopped = start(tmp_path, *words(root), *TWO_PROCESSES, *at("batch", 5, "raise", rank))
    assert stopped.returncode != 0
    assert time.time() - float((tmp_path / "moment").read_text()) < 60
    assert "an error of one process" in stopped.stderr
