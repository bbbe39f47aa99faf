"""The command cross_validate stops together with its runs, and checks existing folds."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from inceptionnext_lit.cli.commands.cross_validate import check_fold
from inceptionnext_lit.cli.runs.best_epoch import best_epoch
from inceptionnext_lit.errors import UserError
from tests.recipes import SMALL

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", 143), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("SIGKILL", -9), ("SIGINT", 130)))],
)
def test_fold_saves_and_stops_with_the_command(
    shell: Shell, make_folder: Callable[..., Path], tmp_path: Path, name: str, code: int
) -> None:
    data = make_folder(tmp_path / "data", {".": 8})
    place = "--trainer.callbacks"
    at_the_third_batch = [
        f"{place}+=tests.cli.moments.At", f"{place}.moment", "batch", f"{place}.number", 3, f"{place}.what",
        f"parent:{name}",
    ]  # fmt: skip
    words = [
        *SMALL,
        "--data.root",
        data,
        "--data.batch_size",
        2,
        "--data.split.num_folds",
        2,
        "--trainer.max_epochs",
        100000,
    ]
    done = shell("cross_validate", *words, *at_the_third_batch)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    deadline = time.monotonic() + 60
    while any(p.info["cwd"] == str(tmp_path) for p in psutil.process_iter(["cwd"])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stored = torch.load(tmp_path / "runs/quickstart_fold0/version_0/checkpoints/last.ckpt", weights_only=True)
    assert 3 <= stored["global_step"] < 200
    assert not (tmp_path / "runs/quickstart_fold1").exists()
    if code > 0:
        assert f"Stopped by {name} in fold 1 of 2; the same command with --ckpt_path last continues." in done.stdout


@pytest.mark.slow
def test_folds_of_another_cross_validation_are_rejected(
    make_folder: Callable[..., Path], cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {".": 6})
    words = [*SMALL, "--data.root", root, "--data.batch_size", 4, "--trainer.max_epochs", 1, "--run_name", "cv"]
    cli("fit", *words, "--data.split.num_folds", 2, "--data.split.fold", 0, "--run_name", "cv_fold0")
    for options, message in {
        (
            "--data.split.num_folds",
            3,
        ): "Fold 1 in runs/cv_fold0/version_0 was trained with data.split.num_folds 2, but this "
        "cross-validation has 3; leave out --ckpt_path last, or give another --run_name.",
        ("--data.split.num_folds", 2, "--model.lr", 0.01): "model.lr 0.003, but this cross-validation has 0.01",
    }.items():
        with pytest.raises(SystemExit) as exit_:
            cli("cross_validate", *words, *options, "--ckpt_path", "last")
        assert exit_.value.code == 1
        assert message in capsys.readouterr().err
    config = {"data": {"init_args": {"num_folds": 2, "fold": 0}}, "model": {"init_args": {"lr": 0.003}}}
    check_fold(tmp_path / "runs/cv_fold0", config, 0)
    check_fold(tmp_path / "runs/cv_fold1", config, 1)
    config["data"]["init_args"]["root"] = f"{root}/"
    check_fold(tmp_path / "runs/cv_fold0", config, 0)
    config["model"]["init_args"]["lr"] = 0.01  # --find_lr finds another one in each fold
    check_fold(tmp_path / "runs/cv_fold0", config, 0, ignored={"lr"})


def test_a_fold_without_validation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no validation; train for at least one epoch"):
        best_epoch(tmp_path)
