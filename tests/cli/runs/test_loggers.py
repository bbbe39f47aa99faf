"""A run's metrics in its folder, and in the loggers that a recipe adds."""

import csv
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inceptionnext_lit.cli.runs.latest_run import Continuation
from inceptionnext_lit.cli.runs.loggers import ContinuedCSVLogger, kept_rows
from tests.recipes import SMALL

SHORT = [*SMALL, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2"]
SHORT += ["--trainer.log_every_n_steps", "1"]


def accuracy(run: Path) -> float:
    with (run / "metrics.csv").open() as file:
        [value] = [row["val/acc1"] for row in csv.DictReader(file) if row["val/acc1"]]
    return float(value)


@pytest.mark.slow
def test_mlflow_by_one_line(
    shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = shell("fit", *SHORT, "--trainer.logger", "MLFlowLogger")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/quickstart/version_0"
    with sqlite3.connect(tmp_path / "runs/mlflow.db") as database:
        [(name,)] = database.execute("select name from experiments where name != 'Default'").fetchall()
        [(value,)] = database.execute("select value from metrics where key = 'val/acc1'").fetchall()
    assert name == "quickstart"
    assert value == pytest.approx(accuracy(run))
    assert (run / "checkpoints/last.ckpt").is_file()
    assert list(run.glob("events.out.tfevents.*"))
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.slow
def test_weights_and_biases_by_one_line(
    shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = shell("fit", *SHORT, "--trainer.logger", "WandbLogger")
    assert done.returncode == 0, done.stderr
    [record] = (tmp_path / "runs/wandb").glob("offline-run-*/run-*.wandb")
    content = record.read_bytes()
    for word in (b"quickstart", b"val/acc1", b"train/loss_step"):
        assert word in content
    run = tmp_path / "runs/quickstart/version_0"
    assert accuracy(run) > 0
    saved = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["logger"]["init_args"]
    assert (saved["name"], saved["save_dir"]) == (None, ".")  # as given
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.slow
def test_a_logger_with_a_missing_package(
    cli: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Missing:
        def __bool__(self) -> bool:
            return False

        def __str__(self) -> str:
            return "Module not found: 'wandb'. HINT: Try running `pip install -U 'wandb'`"

    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", Missing())
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SHORT, "--trainer.logger", "WandbLogger")
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "error: WandbLogger needs a package that is not installed: pip install wandb.\n"
    assert not list(tmp_path.iterdir())


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,lr,train/loss,val/acc1\n0,0.1,,\n1,0.2,,\n1,,1.5,\n1,,,0.5\n2,0.3,,\n3,0.4,,\n3,,,0.6\n")

    def kept(**position: Any) -> list[tuple[str, ...]]:
        return [tuple(row) for row in kept_rows(path, Continuation(0, None, **position))]

    assert kept(rows=4) == [("step", "lr"), ("step", "lr"), ("step", "train/loss"), ("step", "val/acc1")]
    assert kept(rows=2, pending=({"epoch": 0, "train/loss": 1.5, "step": 1},))[2:] == [("epoch", "train/loss", "step")]
    assert len(kept(rows=7)) == 7
    assert kept(rows=0) == []
    assert len(kept(step=2)) == 4  # for a checkpoint without this number
    path.write_text(path.read_text() + "4,0.")  # killed while writing this row
    assert len(kept(rows=9)) == 7
    assert kept_rows(tmp_path / "none.csv", Continuation(0, None, rows=2)) == []


def test_rows_of_a_continued_run_survive_a_second_kill(tmp_path: Path) -> None:
    path = tmp_path / "runs/a/version_0/metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("loss,step\n1.5,0\n1.4,1\n1.3,2\n")
    logger = ContinuedCSVLogger(str(tmp_path / "runs"), "a", 0, Continuation(0, None, rows=2))
    logger.log_metrics({"loss": 1.2, "acc": 0.5}, step=2)
    assert path.read_text().split() == ["loss,step", "1.5,0", "1.4,1"]  # what a kill at this point leaves
    logger.save()
    assert path.read_text().split() == ["acc,loss,step", ",1.5,0", ",1.4,1", "0.5,1.2,2"]
    logger.log_metrics({"new": 1.0}, step=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            logger.save()
    assert path.read_text().split() == ["acc,loss,step", ",1.5,0", ",1.4,1", "0.5,1.2,2"]


@pytest.mark.slow
def test_a_saved_recipe_has_the_given_values_and_no_paths_of_its_run(
    cli: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["fit", *SHORT, "--trainer.logger", "MLFlowLogger", "--trainer.logger.save_dir", tmp_path / "store"]
    cli(*words)
    assert (tmp_path / "store/mlflow.db").is_file()
    run = tmp_path / "runs/quickstart/version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["trainer"]["logger"]["init_args"]["tracking_uri"] is None
    assert saved["trainer"]["logger"]["init_args"]["artifact_location"] is None
    assert saved["trainer"]["logger"]["init_args"]["experiment_name"] == "lightning_logs"
    cli("fit", *SHORT, "--ckpt_path", "last", "--trainer.max_epochs", 2)
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["ckpt_path"] is None
