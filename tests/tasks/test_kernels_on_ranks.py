"""Ranks use the same form of each mixer, which the first rank chooses, also if the model is sharded."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.models.metanext import MetaNeXtBlock
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks import kernels as chosen
from inceptionnext_lit.training.execution import Execution
from tests.ranks import run_ranks


def times(steps: Any, device: torch.device) -> dict[str, float]:
    """Prefer the kernel, on the first rank; no other is to time anything."""
    assert os.environ["RANK"] == "0"
    for step in steps.values():
        step()
    return {"torch": 2.0, "triton": 1.0}


def train(root: Path, *, sharded: bool, only_first: bool = False) -> tuple[set[str], int]:
    """Return the forms of a rank's mixers after a step, and the number of mixers."""
    seed_everything(1)
    os.environ[CACHE_VARIABLE] = str(root.parent / "cache")
    task = ClassificationTask(
        "inceptionnext_nano", data_spec=DataSpec(num_classes=3), execution=Execution(kernels="auto"),
        kwargs={"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}, ema_decay=0.9,
    )  # fmt: skip
    data = ImageFolderDataModule(
        str(root), image_size=64, batch_size=2, num_workers=0, input=InputOptions(crop_pct=1.0)
    )
    strategy: Any = (
        ModelParallelStrategy(2, tensor_parallel_size=1, save_distributed_checkpoint=False) if sharded else "ddp"
    )
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy=strategy, max_steps=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=1, default_root_dir=root.parent,
    )  # fmt: skip
    is_able = not only_first or os.environ["RANK"] == "0"
    with (
        patch.object(chosen, "why_not", lambda device: "" if is_able else "Triton is not installed"),
        patch.object(chosen, "time_alternately", times),
    ):
        trainer.fit(task, data)
    found = [block.token_mixer.kernels for block in task.model.modules() if isinstance(block, MetaNeXtBlock)]
    return set(found), len(found)


def train_whole(root: Path) -> Any:
    return train(root, sharded=False)


def train_sharded(root: Path) -> Any:
    return train(root, sharded=True)


def train_with_one_that_can(root: Path) -> Any:
    return train(root, sharded=False, only_first=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "form"), [(train_whole, "triton"), (train_sharded, "triton"), (train_with_one_that_can, "torch")]
)
def test_ranks_agree(
    make_folder: Callable[..., Path], tmp_path: Path, function: Callable[[Path], Any], form: str
) -> None:
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    assert run_ranks(2, function, tmp_path / "out", root) == [({form}, 5)] * 2
    assert (tmp_path / "kernels.csv").exists() == (form == "triton")
