"""FSDP2 on two CPU ranks: each variant trains as on one, and its checkpoints are not sharded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.models import VARIANTS
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from tests.ranks import run_ranks

NONE = Augmentation(scale=None, color_jitter=0, rand_augment_magnitude=None, erasing=0)
SMALL = {"inceptionnext_nano", "inceptionnext_iso_micro", "metanext_attn_nano"}


def shrunk(name: str) -> dict[str, Any]:
    """Create a variant with few and narrow blocks."""
    args = next(row.args for row in VARIANTS if row.name == name)
    if "depths" in args:
        return {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}
    return {"depth": 2, "dim": 96, "patch_size": 8}


def train(
    processes: int, root: Path, names: list[str], steps: int, ckpt_path: Path | None = None
) -> dict[str, dict[str, Tensor]]:
    """Return each variant's state after some steps, also saved as ``NAME-STEPS.ckpt``."""
    states = {}
    for name in names:
        seed_everything(1)
        task = ClassificationTask(
            name, data_spec=DataSpec(num_classes=3), lr=0.1, weight_decay=0.05, ema_decay=0.9,
            schedule=Schedule(min_lr=0.1), kwargs=shrunk(name),
            optimizer=OptimizerOptions("sgd", kwargs={"momentum": 0.9}),
        )  # fmt: skip
        data = ImageFolderDataModule(
            str(root), image_size=224 if "pos_embed" in dict(task.model.named_parameters()) else 64,
            batch_size=4 // processes, num_workers=0, input=InputOptions(crop_pct=1.0), augmentation=NONE,
        )  # fmt: skip
        sharded = ModelParallelStrategy(processes, tensor_parallel_size=1, save_distributed_checkpoint=False)
        trainer = Trainer(
            accelerator="cpu", devices=processes, strategy=sharded if processes > 1 else "auto", max_steps=steps,
            max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, limit_val_batches=1,
        )  # fmt: skip
        trainer.strategy.checkpoint_io = SafeCheckpointIO()
        DeviceSyncBatchNorm().apply(task)
        trainer.fit(task, data, ckpt_path=None if ckpt_path is None else ckpt_path / f"{name}.ckpt", weights_only=True)
        folder = root.parent / f"{processes}-{steps}"
        trainer.save_checkpoint(folder / f"{name}.ckpt")
        if trainer.is_global_zero:
            states[name] = torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"]
    return states


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 8, "val": 2})


@pytest.mark.slow
def test_every_variant_trains_sharded_as_it_does_whole(root: Path) -> None:
    names = [row.name for row in VARIANTS]
    whole = train(1, root, names, 2)
    sharded, _ = run_ranks(2, train, root.parent / "out", 2, root, names, 2)
    assert sharded.keys() == whole.keys() == set(names)
    for name in names:
        assert sharded[name].keys() == whole[name].keys()
        for key, value in whole[name].items():
            close = torch.allclose(sharded[name][key], value, rtol=1e-3, atol=1e-5)
            assert close, f"{name}: {key} by {(sharded[name][key] - value).abs().max()}"


@pytest.mark.slow
def test_a_sharded_run_continues(root: Path) -> None:
    names = sorted(SMALL)
    whole, _ = run_ranks(2, train, root.parent / "out", 2, root, names, 4)
    run_ranks(2, train, root.parent / "out", 2, root, names, 2)
    continued, _ = run_ranks(2, train, root.parent / "out", 2, root, names, 4, root.parent / "2-2")
    for name in names:
        for key, value in whole[name].items():
            assert torch.equal(continued[name][key], value), f"{name}: {key}"


@pytest.mark.slow
def test_a_sharded_runs_checkpoint_loads_anywhere(root: Path) -> None:
    [name] = ["inceptionnext_iso_micro"]
    run_ranks(2, train, root.parent / "out", 2, root, [name], 2)
    task = ClassificationTask.load_from_checkpoint(root.parent / "2-2" / f"{name}.ckpt", weights_only=True)
    assert task(torch.zeros(1, 3, 64, 64)).isfinite().all()
