"""The best epoch and early stopping follow the direction of the monitored metric."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint, Checkpoints, StopEarly, best_mode
from inceptionnext_lit.training.callbacks.progress import best_so_far

MICRO = "inceptionnext_iso_micro"


class Scripted(LightningModule):
    """Log the given values, one per validation."""

    def __init__(self, values: list[float], directions: dict[str, str] | None = None, name: str = "val/loss") -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.values, self.metric, self.validations, self.bests = values, name, 0, list[Any]()
        if directions is not None:
            self.directions = directions

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log(self.metric, self.values[self.validations])

    def on_validation_end(self) -> None:
        self.validations += 1

    def on_train_epoch_end(self) -> None:
        self.bests.append(best_so_far(self.trainer))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(module: Scripted, path: Path, *callbacks: Callback, resume: Any = None, **settings: Any) -> Trainer:
    settings = {"max_epochs": len(module.values)} | settings
    trainer = Trainer(
        callbacks=list(callbacks), default_root_dir=path, num_sanity_val_steps=0, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    batches = DataLoader([torch.ones(1)] * 2)
    trainer.fit(module, batches, batches, ckpt_path=resume, weights_only=True if resume else None)
    return trainer


def test_the_direction_of_every_figure_of_the_tasks() -> None:
    single = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), ema_decay=0.9)
    assert single.directions == {
        f"{stage}/{name}": mode
        for stage in ("val", "val_ema")
        for name, mode in {"acc1": "max", "acc5": "max", "macro_acc": "max", "loss": "min"}.items()
    }
    several = ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=2, class_names=["cat", "loss"], multi_label=True)
    )
    assert several.directions == {
        "val/mAP": "max", "val/f1": "max", "val/f1/cat": "max", "val/f1/loss": "max", "val/loss": "min",
    }  # fmt: skip
    assert next(iter(single.directions)) == "val/acc1"  # by which the best epoch is chosen


def test_the_best_loss_is_the_smallest(tmp_path: Path) -> None:
    module = Scripted([0.9, 0.4, 0.6], {"val/loss": "min"})
    best = BestCheckpoint("val/loss")
    run(module, tmp_path, best)
    assert float(best.best_model_score) == pytest.approx(0.4)
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 1
    assert [shown["best val/loss"] for shown in module.bests] == ["0.900", "0.400", "0.400"]


@pytest.mark.parametrize(
    ("name", "mode", "values", "epochs"),
    [
        ("val/loss", "min", [0.8, 0.7, 0.6, 0.5, 0.4], 5),  # better and better
        ("val/loss", "min", [0.5, 0.6, 0.7, 0.4, 0.3], 3),
        ("val/acc1", "max", [0.5, 0.6, 0.6, 0.6, 0.9], 4),
    ],
)
def test_patience_goes_by_the_direction(tmp_path: Path, name: str, mode: str, values: list[float], epochs: int) -> None:
    module = Scripted(values, {name: mode}, name)
    run(module, tmp_path, *Checkpoints(name, patience=2).callbacks())
    assert module.validations == epochs


def test_patience_before_min_epochs_does_not_stop_a_run_that_has_recovered(tmp_path: Path) -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.4, 0.3, 0.35, 0.36, 0.2]  # nothing better for three epochs, then again
    module = Scripted(values, {"val/loss": "min"})
    run(module, tmp_path, StopEarly("val/loss", None, 2), min_epochs=5)
    assert module.validations == 8


def test_a_run_that_has_not_recovered_by_min_epochs_stops_there(tmp_path: Path) -> None:
    module = Scripted([0.5, 0.6, 0.7, 0.8, 0.9, 0.1], {"val/loss": "min"})
    run(module, tmp_path, StopEarly("val/loss", None, 2), min_epochs=4)
    assert module.validations == 4


def test_a_validation_in_the_middle_of_the_last_of_min_epochs_does_not_decide(tmp_path: Path) -> None:
    values = [0.5, 0.6, 0.7, 0.4, 0.3, 0.2]  # two validations an epoch
    module = Scripted(values, {"val/loss": "min"})
    run(module, tmp_path, StopEarly("val/loss", None, 2), min_epochs=2, max_epochs=3, val_check_interval=0.5)
    assert module.validations == 6


def test_the_patience_of_a_continued_run_is_its_own(tmp_path: Path) -> None:
    first = run(Scripted([0.5, 0.6, 0.7], {"val/loss": "min"}), tmp_path, StopEarly("val/loss", None, 2))
    assert first.current_epoch == 3
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    module = Scripted([0.6, 0.7, 0.8, 0.9], {"val/loss": "min"})
    stop = StopEarly("val/loss", None, 4)
    run(module, tmp_path, stop, resume=tmp_path / "stopped.ckpt", max_epochs=9)
    assert stop.patience == 4
    assert module.validations == 2  # after the two of the first run


def test_a_mode_that_contradicts_the_metric() -> None:
    task = Scripted([0.1], {"val/loss": "min", "val/acc1": "max"})
    assert best_mode(task, "val/loss", "min") == best_mode(task, "val/loss") == "min"
    with pytest.raises(UserError, match=r"checkpoint.mode is max, but the best val/loss is the smallest"):
        best_mode(task, "val/loss", "max")
    with pytest.raises(UserError, match=r"checkpoint.mode is min, but the best val/acc1 is the largest"):
        best_mode(task, "val/acc1", "min")


def test_a_task_without_directions_needs_a_mode(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Scripted does not define whether the best val/loss is the largest or the"):
        run(Scripted([0.1]), tmp_path, BestCheckpoint("val/loss"))
    best = BestCheckpoint("val/loss", "min")
    run(Scripted([0.3, 0.2, 0.4]), tmp_path, best)
    assert float(best.best_model_score) == pytest.approx(0.2)


def test_a_nan_metric_is_not_the_best(tmp_path: Path) -> None:
    module = Scripted([float("nan"), 0.4, float("nan")], {"val/loss": "min"})
    run(module, tmp_path, BestCheckpoint("val/loss"))
    assert module.bests[1:] == [{"best val/loss": "0.400"}] * 2
