"""Distillation on two CPU ranks, replicated and sharded: as on one, with the projection of the features."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.distillation import Distill
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from tests.ranks import run_ranks
from tests.small_checkpoint import INPUT, save_checkpoint

NONE = Augmentation(scale=None, color_jitter=0, rand_augment_magnitude=None, erasing=0)
CLASSES = ["bag", "coat", "sandal"]


def train(way: str, root: Path, steps: int, ckpt_path: Path | None = None) -> tuple[dict[str, Tensor], Path]:
    """Return the state after some steps, and the checkpoint that it is saved in."""
    seed_everything(1)
    processes = 1 if way == "one" else 2
    distill = Distill(str(root.parent / "teacher.ckpt"), "features", weight=0.7)
    task = ClassificationTask(
        "inceptionnext_iso_micro", data_spec=DataSpec(CLASSES, 3, preprocessing=INPUT), lr=0.1, weight_decay=0.05,
        schedule=Schedule(min_lr=0.1), kwargs={"dim": 24, "depth": 2}, ema_decay=0.9,
        optimizer=OptimizerOptions("sgd", kwargs={"momentum": 0.9}), distill=distill,
    )  # fmt: skip
    data = ImageFolderDataModule(
        str(root), image_size=28, batch_size=4 // processes, num_workers=0, augmentation=NONE,
        input=InputOptions(crop_pct=1.0, mean=INPUT["mean"], std=INPUT["std"]),
    )  # fmt: skip
    strategies = {
        "one": lambda: "auto",
        "replicated": DDPStrategy,
        "sharded": lambda: ModelParallelStrategy(2, tensor_parallel_size=1, save_distributed_checkpoint=False),
    }
    trainer = Trainer(
        accelerator="cpu", devices=processes, strategy=strategies[way](), max_steps=steps, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        gradient_clip_val=1.0, limit_val_batches=1,
    )  # fmt: skip
    trainer.strategy.checkpoint_io = SafeCheckpointIO()
    DeviceSyncBatchNorm().apply(task)
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    path = root.parent / f"{way}-{steps}-{ckpt_path is not None}.ckpt"
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)["state_dict"] if trainer.is_global_zero else {}, path


@pytest.mark.slow
@pytest.mark.parametrize("way", ["replicated", "sharded"])
def test_a_distilled_run_on_two_ranks(make_folder: Callable[..., Path], tmp_path: Path, way: str) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 2})
    save_checkpoint(tmp_path / "teacher.ckpt", CLASSES)
    whole, _ = train("one", root, 4)
    (state, _), _ = run_ranks(2, train, tmp_path / "out", way, root, 4)
    assert state.keys() == whole.keys()
    assert "distillation.projection.weight" in state
    for key, value in whole.items():
        assert torch.allclose(state[key], value, rtol=1e-3, atol=1e-5), key
    (_, half), _ = run_ranks(2, train, tmp_path / "out", way, root, 2)
    (continued, _), _ = run_ranks(2, train, tmp_path / "out", way, root, 4, half)
    assert all(torch.equal(continued[key], value) for key, value in state.items())
