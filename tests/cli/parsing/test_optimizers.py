"""LightningCLI's ``--optimizer`` and ``--lr_scheduler``."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from inceptionnext_lit.tasks import ClassificationTask
from tests.recipes import SMALL

Cli = Callable[..., None]
EXPONENTIAL = ["--lr_scheduler", "ExponentialLR", "--lr_scheduler.gamma", 0.5]


@pytest.fixture
def words(make_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    """Return the arguments of two epochs of two steps."""
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat", "sandal"))
    return ["fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 2]


def run_folder(tmp_path: Path, version: int = 0) -> Path:
    return tmp_path / f"runs/quickstart/version_{version}"


def stored(tmp_path: Path, version: int = 0) -> dict[str, Any]:
    return torch.load(run_folder(tmp_path, version) / "checkpoints/last.ckpt", weights_only=True)


def rates(tmp_path: Path, version: int = 0) -> list[float]:
    with open(run_folder(tmp_path, version) / "metrics.csv") as table:
        return [float(row["lr"]) for row in csv.DictReader(table) if row.get("lr")]


@pytest.mark.slow
def test_both_become_options_of_the_task(
    cli: Cli, words: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer = ["--optimizer", "torch.optim.RAdam", "--optimizer.lr", 0.01, "--optimizer.betas", "[0.8, 0.9]"]
    cli(*words, *optimizer, *EXPONENTIAL, "--trainer.log_every_n_steps", 1)
    out = capsys.readouterr().out
    assert (
        "Optimizer:  torch.optim.RAdam, lr 0.01, weight_decay 0, instead of adamw, lr 0.003, weight_decay 0.05\n" in out
    )
    assert (
        "Schedule:   torch.optim.lr_scheduler.ExponentialLR with gamma 0.5, stepped after each epoch, instead of "
        "warm-up and cosine\n" in out
    )
    assert rates(tmp_path) == pytest.approx([0.01, 0.01, 0.005, 0.005])
    arguments = stored(tmp_path)["hyper_parameters"]
    assert arguments["optimizer"] == {
        "name": "torch.optim.RAdam", "layer_decay": 1.0, "head_lr_factor": 1.0, "kwargs": {"betas": [0.8, 0.9]},
    }  # fmt: skip
    assert (arguments["lr"], arguments["weight_decay"]) == (0.01, 0.0)
    assert stored(tmp_path)["optimizer_states"][0]["param_groups"][0]["betas"] == [0.8, 0.9]
    # the saved recipe repeats the run
    cli("fit", "--config", run_folder(tmp_path) / "config.yaml")
    first, second = (stored(tmp_path, version)["state_dict"] for version in (0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.slow
def test_both_in_a_recipe(cli: Cli, words: list[object], tmp_path: Path) -> None:
    recipe = {
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.01}},
        "lr_scheduler": {
            "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
            "init_args": {"monitor": "val/loss", "patience": 0, "threshold": 1.0, "factor": 0.25},
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    words += ["--config", tmp_path / "mine.yaml", "--trainer.max_epochs", 3, "--trainer.log_every_n_steps", 1]
    cli(*words)
    assert rates(tmp_path) == pytest.approx([0.2, 0.2, 0.05, 0.05, 0.0125, 0.0125])  # no loss counts as an improvement
    state = stored(tmp_path)
    assert state["hyper_parameters"]["schedule"]["kwargs"] == {
        "monitor": "val/loss", "patience": 0, "threshold": 1.0, "factor": 0.25,
    }  # fmt: skip
    assert {group["weight_decay"] for group in state["optimizer_states"][0]["param_groups"]} == {0.0, 0.01}
    cli("validate", *words[1:-4], "--ckpt_path", run_folder(tmp_path) / "checkpoints/last.ckpt")


@pytest.mark.slow
def test_a_run_with_both_resumes(
    cli: Cli, words: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--trainer.log_every_n_steps", 1]
    both = ["--optimizer", "SGD", "--optimizer.lr", 0.2, *EXPONENTIAL]
    cli(*words, *both)
    path = run_folder(tmp_path) / "checkpoints/last.ckpt"
    cli(*words, *both, "--ckpt_path", path, "--trainer.max_epochs", 3)
    assert rates(tmp_path, 1) == pytest.approx([0.05, 0.05])
    # without them, optimizer and schedule come from the checkpoint, and the learning rate from the recipe
    cli(*words, "--ckpt_path", path, "--trainer.max_epochs", 3)
    assert rates(tmp_path, 2) == pytest.approx([0.003 / 4] * 2)
    capsys.readouterr()
    for changes, message in {
        ("--lr_scheduler", "ExponentialLR", "--lr_scheduler.gamma", 0.9): "model.schedule.kwargs is {'gamma': 0.9} and "
        "was {'gamma': 0.5} in the checkpoint's run, but the schedule's state belongs to the earlier one",
        ("--model.schedule.interval", "step"): "model.schedule.interval is step and was epoch",
        ("--optimizer", "RAdam"): "model.optimizer.name is torch.optim.RAdam and was torch.optim.SGD",
    }.items():
        with pytest.raises(SystemExit) as exit_:
            cli(*words, "--ckpt_path", path, "--trainer.max_epochs", 3, *changes)
        assert exit_.value.code == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--optimizer.lr", 0.1],
            "optimizer.lr is an argument of a class; name the class before it: --optimizer torch",
        ),
        (["--optimizer", "adamw"], "did you mean torch.optim.AdamW or"),
        (["--optimizer", "Radam"], "did you mean torch.optim.RAdam or torch.optim.Adam?"),
        (["--optimizer", "torch.optim.Adan"], "did you mean torch.optim.Adam or torch.optim.RAdam?"),
        (["--optimizer", "Adam", "--optimizer.beta", 1], "torch.optim.Adam has no argument 'beta'; did you mean betas"),
        (["--optimizer", "torch.nn.Linear"], "optimizer is 'torch.nn.Linear', which is not a known Optimizer class"),
        (["--lr_scheduler", "StepLr"], "did you mean torch.optim.lr_scheduler.StepLR or"),
        (["--lr_scheduler", "StepLR"], "lr_scheduler: the following arguments are required: step_size"),
    ],
)
def test_unknown_classes_and_arguments(
    cli: Cli, given: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, *given)
    assert exit_.value.code == 2
    [error] = capsys.readouterr().err.splitlines()
    assert message in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--optimizer", "LBFGS"], "'torch.optim.LBFGS' does not work here: LBFGS doesn't support per-parameter"),
        (["--model.optimizer.name", "torch.optim.Rprop"], "has no weight decay; give --model.weight_decay 0."),
        (["--lr_scheduler", "ConstantLR", "--model.finetuning.probe_epochs", 1], "leave out model.finetuning.probe_ep"),
    ],
)
def test_options_that_do_not_fit_the_task(
    cli: Cli, words: list[object], given: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli(*words, *given)
    assert exit_.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_an_optimizer_without_weight_decay(cli: Cli, words: list[object], tmp_path: Path) -> None:
    cli(*words, "--optimizer", "Rprop", "--trainer.max_epochs", 1)
    assert stored(tmp_path)["hyper_parameters"]["weight_decay"] == 0.0


class Own(ClassificationTask):
    """A task that configures its own optimizer, as a plain LightningModule does."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.model(batch[0]), batch[1])


@pytest.mark.slow
def test_other_modules_are_left_to_lightning(
    cli: Cli, words: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--model", "tests.cli.parsing.test_optimizers.Own", "--model.name", "inceptionnext_iso_micro"]
    words += ["--trainer.log_every_n_steps", 1]
    with pytest.warns(UserWarning, match=r"`Own\.configure_optimizers` will be overridden"):
        cli(*words, "--optimizer", "SGD", "--optimizer.lr", 0.125, *EXPONENTIAL)
    assert rates(tmp_path) == pytest.approx([0.125, 0.125, 0.0625, 0.0625])
    assert "Optimizer:" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        cli(*words, *EXPONENTIAL)
    assert exit_.value.code == 1
    assert "--lr_scheduler needs --optimizer too if the model is tests.cli" in capsys.readouterr().err
