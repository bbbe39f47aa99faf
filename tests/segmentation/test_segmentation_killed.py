"""Segmentation runs that are killed at any time continue to the same weights, curves and best checkpoint."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.cli.test_killed import ONE_PROCESS, TWO_PROCESSES, assert_same_run, at, continued, last, start
from tests.recipes import REPO
from tests.scenes import write_pairs

BATCHES, SAVES = 24, 9  # of a run of one process: three epochs of four steps of two batches


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_pairs(root, counts={"train": 24, "val": 5}, height=48, width=64, ignored=True)
    return root


def words(root: Path) -> list[str]:
    """Three epochs of four steps with random crops, stochastic depth, averaged weights and weights of classes."""
    return [
        "fit", "--config", str(REPO / "configs/segment/quickstart.yaml"), "--run_name", "quickstart",
        "--data.root", str(root), "--data.crop_size", "auto", "--data.batch_size", "3", "--data.augmentation", "strong",
        "--data.num_workers", "0", "--trainer.accumulate_grad_batches", "2", "--trainer.max_epochs", "3",
        "--trainer.check_val_every_n_epoch", "1", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1",
        "--model.name", "inceptionnext_iso_micro", "--model.drop_path", "0.3", "--model.ema_decay", "0.9",
        "--model.segmentation.decoder_kwargs", "{width: 8, head_width: 8}",
        "--model.segmentation.loss.class_weights", "auto", "--model.schedule.poly.warmup_steps", "4",
        "--checkpoint.monitor", "val_ema/mIoU", "--checkpoint.every_n_steps", "2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    done = start(folder, *words(root), *ONE_PROCESS)
    assert done.returncode == 0, done.stderr
    assert last(folder)["global_step"] == 12
    return folder


def drawn(seed: int) -> tuple[str, int]:
    """Draw a moment of a run."""
    generator = random.Random(seed)
    moment = generator.choice(("batch", "batch", "validating", "saving"))
    return moment, generator.randint(1, {"batch": BATCHES, "validating": 6, "saving": SAVES}[moment])


@pytest.mark.parametrize(
    ("moment", "number"), [("batch", 11), *(pytest.param(*drawn(seed), marks=pytest.mark.slow) for seed in range(6))]
)
def test_killed_and_continued(root: Path, whole: Path, tmp_path: Path, moment: str, number: int) -> None:
    run = [*words(root), *ONE_PROCESS]
    killed = start(tmp_path, *run, *at(moment, number, "SIGKILL"))
    assert killed.returncode == -signal.SIGKILL
    continued(tmp_path, *run)
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "moment", "number"), [(0, "batch", 7), (1, "batch", 10), (1, "validating", 2)])
def test_two_processes_killed_and_continued(root: Path, tmp_path: Path, rank: int, moment: str, number: int) -> None:
    run = [*words(root), *TWO_PROCESSES]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert start(tmp_path / "whole", *run).returncode == 0
    assert start(tmp_path / "killed", *run, *at(moment, number, "SIGKILL", rank)).returncode != 0
    continued(tmp_path / "killed", *run)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_times_until_it_is_done(root: Path, whole: Path, tmp_path: Path) -> None:
    """By the clock, so also while it starts, writes a file or ends."""
    run = [sys.executable, str(REPO / "cli.py"), *words(root), *ONE_PROCESS, "--ckpt_path", "last"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    begin = time.monotonic()
    (tmp_path / "timed").mkdir()
    subprocess.run(run, cwd=tmp_path / "timed", env=environment, check=True, capture_output=True)
    generator, longest = random.Random(0), time.monotonic() - begin
    (tmp_path / "killed").mkdir()
    kills = 0
    while True:
        process = subprocess.Popen(run, cwd=tmp_path / "killed", env=environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(None if kills == 5 else generator.uniform(0.4, 1) * longest)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert process.returncode == 0
    assert kills >= 2
    assert_same_run(tmp_path / "killed", whole)
