"""The checkpoint and run that --ckpt_path last finds, what it prints, and what it does not change."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.recipes import SMALL

Cli = Callable[..., None]
RUN = Path("runs/quickstart/version_0")


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    """One epoch of four steps."""
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    return [
        "fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.log_every_n_steps", 1,
        "--trainer.max_epochs", 1,
    ]  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return torch.load(RUN / "checkpoints" / name, weights_only=True)


def column(name: str) -> list[tuple[int, float]]:
    with (RUN / "metrics.csv").open() as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
def test_the_run_continues_in_its_folder(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*words)
    first = column("train/loss_step")
    capsys.readouterr()
    reads, load = [], torch.load

    def counted(file: Any, *args: Any, **kwargs: Any) -> Any:
        reads.append(Path(file).name)
        return load(file, *args, **kwargs)

    monkeypatch.setattr(torch, "load", counted)
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert reads == ["last.ckpt", "best.ckpt"]  # the best epoch's number is printed at the end
    printed = capsys.readouterr().out
    assert f"Continues:  {RUN}/checkpoints/last.ckpt after step 4, in epoch 2" in printed
    assert "Changed:    trainer.max_epochs 1 → 2" in printed
    assert [path.name for path in Path("runs/quickstart").iterdir()] == ["version_0"]
    assert column("train/loss_step")[:4] == first
    assert [step for step, _ in column("train/loss_step")] == list(range(8))
    assert [step for step, _ in column("val/acc1")] == [3, 7]
    events = EventAccumulator(str(RUN)).Reload()
    assert [event.step for event in events.Scalars("val/acc1")] == [3, 7]
    assert read("last.ckpt")["position"]["epoch"] == 2


@pytest.mark.slow
def test_nothing_to_continue_yet(cli: Cli, words: list[object]) -> None:
    cli(*words, "--ckpt_path", "last")  # as in the first start of a batch job
    assert read("last.ckpt")["global_step"] == 4


@pytest.mark.slow
def test_a_run_without_a_checkpoint_restarts_in_its_folder(cli: Cli, words: list[object]) -> None:
    cli(*words)
    expected = read("last.ckpt")["state_dict"]
    shutil.rmtree(RUN / "checkpoints")
    cli(*words, "--ckpt_path", "last")
    assert [path.name for path in Path("runs/quickstart").iterdir()] == ["version_0"]
    assert all(torch.equal(value, expected[key]) for key, value in read("last.ckpt")["state_dict"].items())
    assert [step for step, _ in column("train/loss_step")] == list(range(4))


@pytest.mark.slow
def test_a_finished_run_is_not_changed(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words)
    before = (RUN / "checkpoints/last.ckpt").read_bytes()
    with pytest.raises(SystemExit) as exit_:
        cli(*words, "--ckpt_path", "last")
    assert exit_.value.code == 0
    assert "Nothing left to do" in capsys.readouterr().out
    assert (RUN / "checkpoints/last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty (0 bytes)", marks=pytest.mark.slow),
        (None, "is not a checkpoint, or is damaged"),  # truncated
        pytest.param(b"my holiday diary", "is not a checkpoint, or is damaged", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_last_checkpoint_is_reported_and_the_newest_good_one_used(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    cli(*words)
    last = RUN / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2] if content is None else content)
    capsys.readouterr()
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    printed = capsys.readouterr().out
    [line] = [line for line in printed.splitlines() if line.startswith("Not used:")]
    assert f"{last} {reason}" in line
    assert f"Continues:  {RUN}/checkpoints/best.ckpt after step 4" in printed
    assert read("last.ckpt")["global_step"] == 8


@pytest.mark.slow
def test_a_foreign_last_checkpoint(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words)
    torch.save({"state_dict": {}, "loops": {}, "hyper_parameters": {"lr": 1}}, RUN / "checkpoints/last.ckpt")
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    printed = capsys.readouterr().out
    assert (
        f"Not used:   The file {RUN}/checkpoints/last.ckpt contains only weights, so no run can continue from it."
        in printed
    )
    assert read("last.ckpt")["global_step"] == 8


@pytest.mark.slow
def test_other_commands_take_last_too(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words)
    capsys.readouterr()
    cli("validate", *words[1:9], "--ckpt_path", "last")
    assert re.search(r"\n +images +acc1 +acc5 +macro_acc +loss\nval +[\d,]+  0\.\d{4} ", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        cli("validate", "--ckpt_path", "last", "--run_name", "other")
    assert "No run with a checkpoint in runs/other" in capsys.readouterr().err


@pytest.mark.slow
def test_changes_are_printed_and_the_command_line_wins(
    cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    cli(*words)
    capsys.readouterr()
    more = ["--trainer.max_epochs", 2, "--model.lr", 0.5, "--model.schedule.min_lr", 0.5, "--data.batch_size", 12]
    cli(*words, *more, "--ckpt_path", "last")
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Changed:")]
    for change in ("model.lr 0.003 → 0.5", "data.batch_size 6 → 12", "trainer.max_epochs 1 → 2"):
        assert change in line
    assert "drop_path" not in line
    stored = read("last.ckpt")
    assert [group["lr"] for group in stored["optimizer_states"][0]["param_groups"]] == [0.5, 0.5]
    assert stored["global_step"] == 6  # two steps of twice as many images


@pytest.mark.slow
def test_a_random_seed_is_drawn_once(cli: Cli, words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    cli(*words, "--seed_everything", "true")
    seed = read("last.ckpt")["run"]["seed_everything"]
    assert seed != 0
    monkeypatch.delenv("PL_GLOBAL_SEED")  # as in a new process
    cli(*words, "--seed_everything", "true", "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert read("last.ckpt")["run"]["seed_everything"] == seed


@pytest.mark.slow
def test_partial_files_of_a_killed_save_are_removed(cli: Cli, words: list[object]) -> None:
    cli(*words)
    leftover = RUN / "checkpoints/.last.ckpt.abc.partial"
    leftover.write_bytes(b"half")
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    assert not leftover.exists()
