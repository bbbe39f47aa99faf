"""All command-line options that select the best epoch."""

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from inceptionnext_lit.cli.runs.best_epoch import best_epoch
from inceptionnext_lit.cli.runs.latest_run import is_finished
from tests.recipes import SMALL

Cli = Callable[..., None]


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    return ["fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 3]


def test_best_epoch_by_loss(cli: Cli, words: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    cli(*words, "--checkpoint.monitor", "val/loss", "--checkpoint.patience", 1, "--trainer.min_epochs", 3)
    printed = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"  val/loss (\S+)  val/acc1", printed)]
    assert len(set(losses)) == 3
    best = min(losses)
    shown = [float(value) for value in re.findall(r"best val/loss (\S+)", printed)]
    assert shown == [min(losses[: i + 1]) for i in range(3)]
    found = re.search(r"Best: +val/loss (\S+) in epoch (\d)", printed)
    assert found is not None
    assert float(found[1]) == pytest.approx(best, abs=1e-3)
    assert int(found[2]) == losses.index(best) + 1
    folder = Path("runs/quickstart/version_0")
    assert torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["epoch"] == losses.index(best)
    kept = yaml.safe_load((folder / "config.yaml").read_text())["checkpoint"]
    assert (kept["monitor"], kept["mode"]) == ("val/loss", "min")
    assert best_epoch(folder)["figures"]["val/loss"] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--checkpoint.monitor", "val/loss", "--checkpoint.mode", "max"],
         "checkpoint.mode is max, but the best val/loss is the smallest; leave out checkpoint.mode"),
        (["--checkpoint.mode", "min"], "checkpoint.mode is min, but the best val/acc1 is the largest"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "val/acc1"],
         "EarlyStopping in trainer.callbacks watches val/acc1 with mode min, which selects the worst value; give"),
        (["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor", "val/acc1"],
         "ModelCheckpoint in trainer.callbacks watches val/acc1 with mode min"),
    ],
)  # fmt: skip
def test_wrong_mode(
    cli: Cli, words: list[object], given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli(*words, *given)
    assert exit_.value.code == 1
    assert f"error: {message}" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("monitor", "patience", "min_epochs", "finished"),
    [
        ("auto", 2, None, True), ("val/loss", 2, None, True), ("val/acc1", 2, None, False),
        ("val/loss", 3, None, False), ("val/loss", None, None, False), ("val/loss", 2, 4, False),
        ("val/loss", 2, 3, True),
    ],
)  # fmt: skip
def test_run_stopped_early(monitor: str, patience: int | None, min_epochs: int | None, finished: bool) -> None:
    checkpoint = {
        "position": {"epoch": 3}, "global_step": 9,
        "callbacks": {"StopEarly{'monitor': 'val/loss', 'mode': 'min'}": {"wait_count": 2}},
    }  # fmt: skip
    trainer = Namespace(max_epochs=9, max_steps=-1, min_epochs=min_epochs, min_steps=None)
    said = is_finished(checkpoint, trainer, Namespace(monitor=monitor, patience=patience))
    assert (said is not None) == finished
