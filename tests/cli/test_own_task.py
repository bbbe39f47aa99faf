"""Tasks from outside the package: one on BaseTask, and a plain LightningModule."""

import csv
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.training.execution import Execution
from tests.forked import run_cli
from tests.recipes import REPO

Cli = Callable[..., None]
DENSE = [
    "fit", "--model", "examples.own_task.DenseTask", "--data", "examples.own_task.Shapes", "--run_name", "shapes",
    "--data.images", "32", "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--data.batch_size", "4",
    "--trainer.accumulate_grad_batches", "2", "--checkpoint.every_n_steps", "1", "--trainer.log_every_n_steps", "1",
]  # fmt: skip
MODULE = """
import torch
from lightning.pytorch import LightningModule


class Plain(LightningModule):
    def __init__(self, width: int = 8, num_classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(3 * 28 * 28, width), torch.nn.Dropout(0.3), torch.nn.ReLU(),
            torch.nn.Linear(width, num_classes),
        )

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)
"""


BARE = """
import torch
from lightning.pytorch import LightningDataModule
from plain import Plain
from torch.utils.data import DataLoader, TensorDataset


class Bare(Plain):
    def __init__(self) -> None:
        super().__init__()


class Shuffled(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        images = torch.rand(24, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        self.images = TensorDataset(images, torch.arange(24) % 3)

    def train_dataloader(self):
        return DataLoader(self.images, batch_size=6, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.images, batch_size=6)
"""


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return run_cli(words, folder, PYTHONPATH=str(folder))


def killed(moment: str, number: int) -> list[str]:
    place = "--trainer.callbacks"
    return [
        f"{place}+=tests.cli.moments.At", f"{place}.moment", moment, f"{place}.number", str(number),
        f"{place}.what", "SIGKILL", f"{place}.rank", "0",
    ]  # fmt: skip


def last(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"runs/{name}/version_0/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_run(folder: Path, whole: Path, name: str) -> None:
    state, expected = last(folder, name), last(whole, name)
    assert state["global_step"] == expected["global_step"]
    for key, value in expected["state_dict"].items():
        assert torch.equal(state["state_dict"][key], value), key
    assert rows(folder, name) == rows(whole, name)


def test_a_custom_task(tmp_path: Path) -> None:
    """Train with averaged weights, kill during an accumulation, resume bitwise exactly, and validate."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    done = run(whole, *DENSE)
    assert done.returncode == 0, done.stderr
    assert "Model:      inceptionnext_iso_micro" in done.stdout  # the task's default, as for the average's decay
    assert "epoch 3/3  train/loss 0." in done.stdout
    assert "best val_ema/iou 0." in done.stdout
    assert "Next: " in done.stdout
    assert "validate --config runs/shapes/version_0/config.yaml" in done.stdout
    assert last(whole, "shapes")["hyper_parameters"]["ema_decay"] == 0.9
    assert run(folder, *DENSE, *killed("batch", 11)).returncode == -signal.SIGKILL
    done = run(folder, *DENSE, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, whole, "shapes")
    config = ["--config", "runs/shapes/version_0/config.yaml", "--ckpt_path", "last"]
    done = run(folder, "validate", *config)
    assert done.returncode == 0, done.stderr
    final = [row["val_ema/iou"] for row in rows(whole, "shapes") if row["val_ema/iou"]][-1]
    assert re.search(rf"^val_ema +\d+  {float(final):.4f}", done.stdout, re.MULTILINE)
    done = run(folder, "predict", "photo.png", *config)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: predict needs a classifier, but DenseTask is not one; use validate or test, or load its checkpoint in "
        "Python."
    ]


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    page = (REPO / "docs/develop/add-a-task.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines():
        done = run(tmp_path, *shlex.split(line)[2:], "--trainer.accelerator", "cpu")
        assert done.returncode == 0, done.stderr
    assert re.search(r"^val_ema +\d+  0\.", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_plain_module(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Train a plain LightningModule, kill it, resume bitwise exactly, and validate."""
    root = make_folder(tmp_path / "data", {"train": 8, "val": 4})
    words = [
        "--model", "plain.Plain", "--data.root", root, "--data.image_size", 28, "--data.batch_size", 4,
        "--data.num_workers", 0, "--trainer.accelerator", "cpu", "--run_name", "plain",
    ]  # fmt: skip
    fit = [
        "fit", *words, "--data", "ImageFolderDataModule", "--trainer.max_epochs", 3, "--checkpoint.monitor",
        "val/loss", "--checkpoint.mode", "min", "--checkpoint.every_n_steps", 1, "--trainer.log_every_n_steps", 1,
    ]  # fmt: skip
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, folder):
        place.mkdir()
        (place / "plain.py").write_text(MODULE)
    done = run(whole, *fit)
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3  train/loss " in done.stdout
    assert run(folder, *fit, *killed("batch", 9)).returncode == -signal.SIGKILL
    done = run(folder, *fit, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    assert "Continues:  runs/plain/version_0/checkpoints/last.ckpt after step 8, in epoch 2" in done.stdout
    assert_same_run(folder, whole, "plain")
    checkpoint = ["--ckpt_path", "runs/plain/version_0/checkpoints/last.ckpt"]
    done = run(folder, "validate", *words, *checkpoint)
    assert done.returncode == 0, done.stderr
    final = [row["val/loss"] for row in rows(whole, "plain") if row["val/loss"]][-1]
    assert f"val      12  {float(final):.4f}" in done.stdout
    done = run(folder, "validate", "--data.root", root, *checkpoint)
    assert done.returncode == 1
    assert "does not name its module's class. For your own module, name it as in training: --model" in done.stderr


def test_a_module_and_data_without_arguments(tmp_path: Path) -> None:
    """The loader shuffles by torch's generator; a run killed in its second epoch continues it exactly."""
    fit = [
        "fit", "--model", "bare.Bare", "--data", "bare.Shuffled", "--trainer.accelerator", "cpu", "--run_name", "bare",
        "--trainer.max_epochs", 3, "--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min", "--seed_everything",
        "1", "--trainer.log_every_n_steps", 1,
    ]  # fmt: skip
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, folder):
        place.mkdir()
        (place / "plain.py").write_text(MODULE)
        (place / "bare.py").write_text(BARE)
    done = run(whole, *fit)
    assert done.returncode == 0, done.stderr
    assert run(folder, *fit, *killed("batch", 6)).returncode == -signal.SIGKILL
    done = run(folder, *fit, "--ckpt_path", "last")
    assert done.returncode == 0, done.stderr
    assert "Continues:  runs/bare/version_0/checkpoints/last.ckpt after step 4, in epoch 2" in done.stdout
    assert_same_run(folder, whole, "bare")


class Small(BaseTask):
    def __init__(self, lr: float = 0.1, weight_decay: float = 0.0, net: Any = None) -> None:
        super().__init__(nn.Linear(2, 2))


class Mirrored(BaseTask):
    def __init__(self, lr: float = 0.1, weight_decay: float = 0.0, execution: Execution | None = None) -> None:
        super().__init__(nn.Linear(2, 2), execution=execution)


class WithoutRate(BaseTask):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2))


def test_a_task_that_cannot_average_mirrored_images() -> None:
    assert Mirrored(execution=Execution(dist_bn="broadcast")).execution.dist_bn == "broadcast"
    with pytest.raises(UserError, match=r"Mirrored does not support model\.execution\.test_time_flip; "):
        Mirrored(execution=Execution(test_time_flip=True))


def test_arguments_that_a_checkpoint_cannot_hold() -> None:
    assert Small().plain_hparams() == {"lr": 0.1, "weight_decay": 0.0, "net": None}
    found = Small(lr=np.float32(0.5), net={"sizes": (np.int64(3), 4)}).plain_hparams()
    assert found == {"lr": 0.5, "weight_decay": 0.0, "net": {"sizes": (3, 4)}}
    assert type(found["lr"]) is float
    with pytest.raises(
        UserError, match="Small takes net, a Tensor, which cannot be stored in a checkpoint; use numbers"
    ):
        Small(net=[torch.zeros(1)]).plain_hparams()
    with pytest.raises(TypeError, match="WithoutRate's constructor must take lr and weight_decay"):
        WithoutRate()
