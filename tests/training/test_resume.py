"""A run resumed from a checkpoint at any moment ends like an uninterrupted one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.distillation import Distill
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from inceptionnext_lit.training.schedule import Schedule
from tests.small_checkpoint import INPUT, save_checkpoint

AUGMENTATION = Augmentation(rand_augment_magnitude=5, repeats=2)
MIX = Mix(mixup=0.8, cutmix=1.0, prob=0.7)


class SaveEverywhere(Checkpoint):
    """Write a checkpoint in every hook in which a callback could."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.validations = 0

    def _save(self, trainer: Trainer, moment: str) -> None:
        number = len(list(self.folder.iterdir()))
        trainer.save_checkpoint(self.folder / f"{number:03}-{moment}-{self.validations}.ckpt")

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._save(trainer, "batch")

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._save(trainer, "validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations += 1
        self._save(trainer, "validated")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "epoch")


class CountValidations(Callback):
    """Record the step of each validation."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps.append(trainer.global_step)


class Rows(Logger):
    """Keep the logged values, one row per call."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.table: list[dict[str, float]] = []

    def rows_on_disk(self) -> int:
        return len(self.table)

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.table.append({key: float(value) for key, value in metrics.items()} | {"step": step})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 8, "val": 3}, classes=("bag", "coat", "sandal"))


def train(
    root: Path,
    folder: Path,
    *callbacks: Callback,
    ckpt_path: Path | None = None,
    workers: int = 0,
    batch_size: int = 3,
    mix: Mix = MIX,
    schedule: Schedule | None = None,
    lr: float = 5e-3,
    data: dict[str, Any] | None = None,
    distill: Any = None,
    **kwargs: Any,
) -> tuple[dict[str, Tensor], Trainer]:
    """Train with all randomness enabled, and return the final state, including averaged weights."""
    teacher = folder / "teacher.ckpt"
    if distill is not None and not teacher.exists():
        save_checkpoint(teacher, ["0", "1", "2"])
    seed_everything(7)
    task = ClassificationTask(
        "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3, preprocessing=INPUT), drop_path=0.3,
        distill=None if distill is None else Distill(str(teacher), distill),
        kwargs={"drop_rate": 0.2, "depth": 2}, loss=LossOptions(mix=mix), lr=lr,
        schedule=schedule or Schedule(warmup_epochs=0.5), ema_decay=0.9,
    )  # fmt: skip
    images = ImageFolderDataModule(
        str(root),
        image_size=28,
        batch_size=batch_size,
        num_workers=workers,
        augmentation=AUGMENTATION,
        input=InputOptions(mean=INPUT["mean"], std=INPUT["std"], crop_pct=1.0),
        **(data or {}),
    )
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings |= {"num_sanity_val_steps": 0, "default_root_dir": folder}
    settings["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = Trainer(callbacks=list(callbacks), **(settings | kwargs))
    trainer.strategy.checkpoint_io = SafeCheckpointIO()
    trainer.fit(task, images, ckpt_path=ckpt_path, weights_only=True)
    return {key: value.clone() for key, value in task.state_dict().items()}, trainer


def assert_bit_equal(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    assert state.keys() == expected.keys()
    differing = [key for key, value in expected.items() if not torch.equal(value, state[key])]
    assert not differing, f"{name}: {len(differing)} of {len(expected)} differ, such as {differing[0]}"


STEPS = {"max_epochs": -1, "accumulate_grad_batches": 2, "val_check_interval": 0.5, "mix": Mix()}
RUNS = {
    "epochs": {"max_epochs": 3},
    "epochs accumulating": {"max_epochs": 2, "accumulate_grad_batches": 2, "mix": Mix()},
    "few steps": {"max_steps": 3, **STEPS},
    "steps": {"max_steps": 5, **STEPS},
    "steps that end an epoch": {"max_steps": 4, "max_epochs": -1},
    "validation every second epoch": {"max_epochs": 3, "check_val_every_n_epoch": 2},
    "no validation": {"max_epochs": 2, "limit_val_batches": 0},
    "a rate that falls each epoch": {
        "max_epochs": 3, "limit_train_batches": 2,
        "schedule": Schedule(name="torch.optim.lr_scheduler.ExponentialLR", kwargs={"gamma": 0.5}),
    },
    "a rate per epoch that is one behind": {
        "max_epochs": 4, "limit_train_batches": 3,
        "schedule": Schedule(
            unit="epoch", warmup_epochs=1, warmup_overlays=True, cooldown_epochs=1, lag_epochs=1, min_lr=1e-4
        ),
    },
    "a rate that waits for a metric": {
        "max_epochs": 4, "limit_train_batches": 2,
        "schedule": Schedule(
            name="torch.optim.lr_scheduler.ReduceLROnPlateau",
            kwargs={"monitor": "val/loss", "patience": 0, "threshold": 1.0, "factor": 0.5},
        ),
    },
    "a teacher's features": {
        "max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2, "mix": Mix(), "distill": "features",
    },
    "a teacher's classes": {"max_epochs": 2, "limit_train_batches": 3, "distill": "hard"},
    "a teacher's logits": {"max_epochs": 2, "limit_train_batches": 3, "distill": "logits"},
    "images that grow": {"max_epochs": 3, "data": {"progressive_size": [12, 24, 28], "global_batch_size": 6}},
    "part of the epoch": {"max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2},
}  # fmt: skip


@pytest.fixture
def four_batches(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Images for four batches of training and two of validation."""
    return make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat", "sandal"))


SHORT = {"few steps", "part of the epoch"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in SHORT)) for name in RUNS])
def test_continuing_from_any_moment_gives_the_same_weights(four_batches: Path, tmp_path: Path, name: str) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    whole, rows = CountValidations(), Rows()
    settings = RUNS[name] | {"log_every_n_steps": 1}
    rate = LearningRateMonitor("step")
    expected, trainer = train(four_batches, tmp_path, SaveEverywhere(saved), whole, rate, logger=rows, **settings)
    checkpoints = sorted(saved.iterdir())
    assert len(checkpoints) >= trainer.global_step
    for path in checkpoints:
        stored = torch.load(path, weights_only=True)
        done = stored["global_step"]
        count, rest = CountValidations(), Rows()
        rate = LearningRateMonitor("step")
        state, continued = train(four_batches, tmp_path, count, rate, ckpt_path=path, logger=rest, **settings)
        assert_bit_equal(state, expected, path.name)
        assert continued.global_step == trainer.global_step
        if done == trainer.global_step and "max_steps" in RUNS[name]:
            continue  # the run's last step is done, and Lightning does not begin again for the validation after it
        before = rows.table[: stored["curve"]["rows"]] + stored["curve"]["pending"]
        assert before + rest.table == rows.table, path.name
        assert continued.current_epoch == trainer.current_epoch
        assert count.steps == whole.steps[int(path.stem.rpartition("-")[2]) :], path.name  # none repeated, none skipped


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_loader_processes_make_no_difference(root: Path, tmp_path: Path, workers: int) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    settings = {"max_epochs": 2, "accumulate_grad_batches": 2}
    expected, _ = train(root, tmp_path, SaveEverywhere(saved), **settings)
    state, _ = train(root, tmp_path, workers=workers, **settings)
    assert_bit_equal(state, expected, "uninterrupted")
    for path in sorted(saved.iterdir())[2:15:6]:
        state, _ = train(root, tmp_path, ckpt_path=path, workers=workers, **settings)
        assert_bit_equal(state, expected, path.name)


@pytest.mark.parametrize("name", ["ExponentialLR", "ReduceLROnPlateau"])
def test_another_learning_rate_with_a_resumed_named_schedule(root: Path, tmp_path: Path, name: str) -> None:
    """The schedule has halved the learning rate twice; with another peak, it continues at a quarter of it."""
    arguments = {"ExponentialLR": {"gamma": 0.5}, "ReduceLROnPlateau": {"monitor": "val/loss", "factor": 0.5}}
    if name == "ReduceLROnPlateau":
        arguments[name] |= {"patience": 0, "threshold": 1.0}  # no loss is good enough
    schedule = Schedule(name=f"torch.optim.lr_scheduler.{name}", kwargs=arguments[name])
    last, limits = LastCheckpoint(), {"limit_train_batches": 1, "schedule": schedule}
    train(root, tmp_path / "a", last, max_epochs=2, **limits)
    stored = torch.load(last.best_model_path, weights_only=True)
    rate = stored["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate == pytest.approx(5e-3 / 4)
    rows = Rows()
    train(
        root, tmp_path / "b", LearningRateMonitor("step"), ckpt_path=Path(last.best_model_path), max_epochs=3, lr=0.1,
        logger=rows, log_every_n_steps=1, **limits,
    )  # fmt: skip
    rates = {value for row in rows.table for key, value in row.items() if key.startswith("lr-")}
    assert [*rates] == [pytest.approx(0.1 / 4)]


def test_a_run_of_steps_can_be_made_longer(root: Path, tmp_path: Path) -> None:
    last = LastCheckpoint()
    constant = {"max_epochs": -1, "limit_val_batches": 0}
    train(root, tmp_path / "a", last, max_steps=5, **constant)
    _, trainer = train(root, tmp_path / "b", ckpt_path=Path(last.best_model_path), max_steps=11, **constant)
    assert trainer.global_step == 11
    assert trainer.current_epoch == 2  # 8 steps an epoch: the first was continued in its middle, not skipped
    assert torch.load(last.best_model_path, weights_only=True)["position"]["batches"] == 5


class RecordImages(Callback):
    """Record the pixels of each batch's images."""

    def __init__(self) -> None:
        self.batches: list[set[bytes]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append({image.numpy().tobytes() for image in batch[0]})


@pytest.mark.slow
def test_another_split_of_the_same_step_continues_after_the_same_images(root: Path, tmp_path: Path) -> None:
    def settings(accumulated: int) -> dict[str, Any]:
        return {"max_epochs": 1, "limit_val_batches": 0, "accumulate_grad_batches": accumulated}

    saved, whole, rest = tmp_path / "saved", RecordImages(), RecordImages()
    saved.mkdir()
    train(root, tmp_path / "a", SaveEverywhere(saved), **settings(2))
    [after_two_steps] = saved.glob("003-batch*")  # four batches of three
    train(root, tmp_path / "b", whole, batch_size=6, **settings(1))
    _, trainer = train(root, tmp_path / "c", rest, batch_size=6, ckpt_path=after_two_steps, **settings(1))
    assert rest.batches == whole.batches[2:]
    assert trainer.global_step == 4


def test_best_and_last_survive(root: Path, tmp_path: Path) -> None:
    callbacks = [BestCheckpoint("val_ema/acc1"), LastCheckpoint(every_n_steps=3)]
    train(root, tmp_path, *callbacks, max_epochs=2)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    stored = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert stored["global_step"] == 16
    assert stored["position"]["epoch"] == 2
