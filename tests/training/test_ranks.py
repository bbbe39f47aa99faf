"""The same numbers on any number of ranks."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.balance import BalanceOptions
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.execution import Execution
from inceptionnext_lit.training.finetuning import Finetuning
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from tests.ranks import run_ranks

AUGMENTATION = Augmentation(scale=None, color_jitter=0, rand_augment_magnitude=None, erasing=0.5)


def make_trainer(processes: int, folder: Path, **kwargs: Any) -> Trainer:
    settings = {"accelerator": "cpu", "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    settings |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "default_root_dir": folder}
    trainer = Trainer(**(settings | kwargs))
    if kwargs.get("sync_batchnorm"):
        trainer.strategy._layer_sync = DeviceSyncBatchNorm()
    return trainer


def evaluate(processes: int, root: Path) -> dict[str, float]:
    """Return the metrics of both splits, for both sets of weights."""
    metrics: dict[str, float] = {}
    for stage in ("validate", "test"):
        seed_everything(3)
        task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), ema_decay=0.9)
        with torch.no_grad():  # so that the two models give other figures
            task.model_ema.module.head.weight.mul_(-1)
        data = ImageFolderDataModule(
            str(root), image_size=28, batch_size=10, num_workers=0, input=InputOptions(crop_pct=1.0)
        )
        [result] = getattr(make_trainer(processes, root), stage)(task, datamodule=data, verbose=False)
        metrics |= result
    return metrics


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_metrics_of_101_images_equal_those_of_one_rank(
    make_folder: Callable[..., Path], tmp_path: Path, processes: int
) -> None:
    root = make_folder(tmp_path / "data", {"train": 42, "val": 33, "test": 33})
    for split in ("val", "test"):
        for _ in range(2):
            extra = sorted((root / "train" / "bag").iterdir())[-1]
            extra.rename(root / split / "bag" / f"extra-{extra.name}")
        assert sum(1 for _ in (root / split).rglob("*.png")) == 101
    single = evaluate(1, root)
    names = ("val", "val_ema", "test", "test_ema")
    assert set(single) == {f"{name}/{metric}" for name in names for metric in ("loss", "acc1", "acc5", "macro_acc")}
    for metrics in run_ranks(processes, evaluate, tmp_path / "out", processes, root):
        assert metrics == single  # exactly
    assert single["val/acc1"] != single["val_ema/acc1"]


def train(
    processes: int, root: Path, model: str, batch_size: int, settings: dict[str, Any]
) -> tuple[dict[str, Tensor], float]:
    """Train three steps with SGD, whose updates are proportional to the gradients, unlike Adam's."""
    warnings.filterwarnings("error", message="Grad strides do not match")
    warnings.filterwarnings("error", message=".*all_reduce.*deprecated")
    seed_everything(5)
    task = ClassificationTask(
        model, data_spec=DataSpec(num_classes=3), lr=0.3, weight_decay=0.0, schedule=Schedule(min_lr=0.3),
        optimizer=OptimizerOptions("sgd", kwargs={"momentum": 0.9}),
    )  # fmt: skip
    data = ImageFolderDataModule(
        str(root),
        image_size=28,
        batch_size=batch_size,
        num_workers=0,
        input=InputOptions(crop_pct=1.0),
        augmentation=AUGMENTATION,
    )
    trainer = make_trainer(processes, root, max_steps=3, max_epochs=-1, limit_val_batches=0, **settings)
    trainer.fit(task, data)
    return dict(task.state_dict()), float(trainer.callback_metrics["train/loss"])


class Saved(Checkpoint):
    """Record the statistics that a checkpoint after the last batch, before its validation, would have."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.state = {key: value.clone() for key, value in pl_module.state_dict().items() if "running" in key}


def statistics(processes: int, root: Path, dist_bn: str, validates: bool) -> dict[str, Tensor]:
    """Return the running statistics, also of the averaged model, after one step and optionally a validation."""
    seed_everything(5)
    task = ClassificationTask(
        "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), lr=0.1, ema_decay=0.5, ema_warmup=False,
        execution=Execution(dist_bn=dist_bn),  # type: ignore[arg-type]
    )  # fmt: skip
    data = ImageFolderDataModule(
        str(root), image_size=28, batch_size=4, num_workers=0, input=InputOptions(crop_pct=1.0)
    )
    limits = {} if validates else {"limit_val_batches": 0}
    saved = Saved()
    make_trainer(
        processes, root, max_steps=1, max_epochs=1, limit_train_batches=1, callbacks=[saved], enable_checkpointing=True,
        **limits,
    ).fit(task, data)  # fmt: skip
    state = {key: value for key, value in task.state_dict().items() if "running" in key}
    if validates and dist_bn == "reduce":  # or a run resumed there would validate with others
        assert all(torch.equal(value, saved.state[key]) for key, value in state.items())
    return state


def test_ranks_validate_with_their_mean_statistics(root: Path, tmp_path: Path) -> None:
    own = run_ranks(2, statistics, tmp_path / "own", 2, root, "broadcast", False)
    assert any(not torch.equal(value, own[1][key]) for key, value in own[0].items())
    reduced = run_ranks(2, statistics, tmp_path / "reduced", 2, root, "reduce", True)
    first = run_ranks(2, statistics, tmp_path / "first", 2, root, "broadcast", True)
    for rank in range(2):
        for key, value in own[0].items():
            assert torch.equal(reduced[rank][key], (value + own[1][key]) / 2), key
            assert torch.equal(first[rank][key], value), key
    alone = [statistics(1, root, dist_bn, True) for dist_bn in ("reduce", "broadcast")]
    assert all(torch.equal(value, alone[1][key]) for key, value in alone[0].items())


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 8, "val": 2})


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("convnext_iso_nano", {}),
        pytest.param("convnext_iso_nano", {"accumulate_grad_batches": 2}, marks=pytest.mark.slow),
        ("inceptionnext_iso_micro", {"sync_batchnorm": True}),
    ],
)
def test_two_ranks_train_like_one_with_twice_the_batch(
    root: Path, tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    expected, loss = train(1, root, model, 4, settings)
    results = run_ranks(2, train, tmp_path / "out", 2, root, model, 2, settings)
    for state, average in results:
        assert average == pytest.approx(loss, rel=1e-5)
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5, msg=key)


def finetune(processes: int, root: Path, batch_size: int) -> dict[str, Tensor]:
    """Train a linear probe, then all layers, on imbalanced classes that are weighted and sampled equally."""
    seed_everything(5)
    task = ClassificationTask(
        "convnext_iso_nano", data_spec=DataSpec(num_classes=3), lr=0.1, weight_decay=0.0, schedule=Schedule(min_lr=0.1),
        optimizer=OptimizerOptions("sgd", head_lr_factor=2.0), 
        finetuning=Finetuning(probe_epochs=1, probe_lr=0.5, allow_random=True),
    )  # fmt: skip
    data = ImageFolderDataModule(
        str(root), image_size=28, batch_size=batch_size, num_workers=0, augmentation=AUGMENTATION,
        input=InputOptions(crop_pct=1.0), balance=BalanceOptions(class_weights={"bag": 3.0}, sampler="balanced"),
    )  # fmt: skip
    make_trainer(processes, root, max_epochs=2, limit_val_batches=0).fit(task, data)
    return dict(task.state_dict())


@pytest.mark.slow
def test_two_ranks_finetune_like_one_with_twice_the_batch(root: Path, tmp_path: Path) -> None:
    for path in sorted((root / "train" / "bag").iterdir())[2:]:
        path.unlink()
    expected = finetune(1, root, 4)
    for state in run_ranks(2, finetune, tmp_path / "out", 2, root, 2):
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.slow
def test_without_synchronized_statistics_two_ranks_differ(root: Path, tmp_path: Path) -> None:
    expected, _ = train(1, root, "inceptionnext_iso_micro", 4, {})
    [(state, _), _] = run_ranks(2, train, tmp_path / "out", 2, root, "inceptionnext_iso_micro", 2, {})
    assert any((state[key] - value).abs().max() > 1e-2 for key, value in expected.items() if "weight" in key)
