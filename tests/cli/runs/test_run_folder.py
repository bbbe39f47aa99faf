"""A run's folder is created at once, locked, and removed if it stays empty."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from inceptionnext_lit.cli.runs import run_folder
from inceptionnext_lit.cli.runs.run_folder import TELL, RunFolder, is_rank_zero
from inceptionnext_lit.cli.runs.run_lock import RunLock, _this_process
from inceptionnext_lit.data import ImageFolderDataModule
from tests.recipes import SMALL

Cli = Callable[..., None]
RUNS = Path("runs/quickstart")


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    """One epoch of four steps."""
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    return ["fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 1]


def test_runs_that_start_together_get_separate_folders(tmp_path: Path) -> None:
    folders = [RunFolder() for _ in range(16)]
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        for folder in folders:
            stack.enter_context(folder)
        list(pool.map(lambda folder: folder.claim(tmp_path / "runs" / "recipe"), folders))
        assert sorted(folder.number for folder in folders if folder.number is not None) == list(range(16))
        (tmp_path / "runs/recipe/version_3/config.yaml").touch()
    assert [path.name for path in (tmp_path / "runs/recipe").iterdir()] == ["version_3"]  # the others were empty
    assert [path.name for path in (tmp_path / "runs/recipe/version_3").iterdir()] == ["config.yaml"]


@pytest.mark.slow
def test_the_folder_is_created_before_the_data_is_scanned(
    cli: Cli, words: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = ImageFolderDataModule.classes.fget
    assert classes is not None
    others: list[int | None] = []

    def slow(self: ImageFolderDataModule) -> list[str]:
        if not others:  # another run of the same recipe starts meanwhile
            with RunFolder() as other:
                other.claim(RUNS)
                others.append(other.number)
                (RUNS / f"version_{other.number}/config.yaml").write_text("another run's")
        return classes(self)

    monkeypatch.setattr(ImageFolderDataModule, "classes", property(slow))
    cli(*words, "--seed_everything", 17)
    assert others == [1]
    assert yaml.safe_load((RUNS / "version_0/config.yaml").read_text())["seed_everything"] == 17
    assert (RUNS / "version_0/checkpoints/last.ckpt").is_file()
    assert (RUNS / "version_1/config.yaml").read_text() == "another run's"
    assert not list(RUNS.rglob(".lock*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        ([], ["--data.batch_size", 1000]),
        (["runs"], ["--model.lr", -1]),
        (["runs", "runs/quickstart", "runs/quickstart/version_0"], ["--trainer.max_epoch", 1]),
    ],
)
def test_a_run_that_fails_at_the_start_keeps_existing_files(
    cli: Cli, words: list[object], tmp_path: Path, there: list[str], wrong: list[object]
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        cli(*words, *wrong)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_active_run_is_not_continued(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words)
    before = {path: path.read_bytes() for path in RUNS.rglob("*") if path.is_file()}
    lock = RunLock(RUNS / "version_0")
    lock.acquire()
    with pytest.raises(SystemExit) as exit_:
        cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    lock.release()
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert f"error: The run in {RUNS}/version_0 is still active in process {os.getpid()} on " in error
    assert {path: path.read_bytes() for path in RUNS.rglob("*") if path.is_file()} == before


def leave_lock(folder: Path) -> None:
    """Write the lock that a killed process leaves in its run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".lock.0").write_text(json.dumps(asdict(replace(_this_process(), pid=2**22 + 1))))


def test_a_killed_run_is_taken_over_and_reported(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*words)
    leave_lock(RUNS / "version_0")
    leave_lock(RUNS / "version_1")  # killed while scanning its data
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    printed = capsys.readouterr().out
    assert f"Taken over: the run in {RUNS}/version_0, from process {2**22 + 1} on " in printed
    assert f"Continues:  {RUNS}/version_0/checkpoints/last.ckpt after step 4, in epoch 2" in printed
    assert [path.name for path in RUNS.iterdir()] == ["version_0"]
    assert not list(RUNS.rglob(".lock*"))


@pytest.mark.parametrize(
    ("environment", "is_first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),  # torchrun's second node
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # started by Lightning in a batch script
        ({"NODE_RANK": "1"}, False),
    ],
)
def test_rank_zero_creates_and_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_first: bool
) -> None:
    for name in run_folder._RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() is is_first
    with RunFolder() as folder:
        folder.claim(tmp_path / "runs")
        assert folder.number == (0 if is_first else None)
        assert (tmp_path / "runs/version_0/.lock.0").exists() is is_first
        folder.lock_newest(tmp_path / "runs")
        assert folder.number == (0 if is_first else None)


def test_a_run_writes_its_path_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELL, str(tmp_path / "told"))
    with RunFolder() as folder:
        assert TELL not in os.environ
        folder.claim(tmp_path / "runs")
        assert (tmp_path / "told").read_text() == str(tmp_path / "runs/version_0")
