"""NaN or infinite logits: an error in evaluation, no label in prediction."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import SharedError, UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.logit_guard import LogitGuard
from inceptionnext_lit.tasks.classification.predictions import rank
from inceptionnext_lit.training.execution import Execution
from tests.ranks import run_ranks

MICRO = "inceptionnext_iso_micro"
NAN, INF = float("nan"), float("inf")


def trainer(path: Path, **kwargs: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 1, "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=path, **(settings | kwargs))


def loader(lost: list[int], multi_label: bool = False) -> DataLoader[Any]:
    """Return ten images in batches of four, some of which make the model's logits NaN or infinite."""
    images = torch.randn(10, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    images[lost, 0, 3, 3] = NAN
    labels = torch.eye(3)[torch.arange(10) % 3] if multi_label else torch.arange(10) % 3
    return DataLoader(TensorDataset(images, labels), batch_size=4)


@pytest.mark.parametrize(
    ("stage", "multi_label", "options"),
    [
        ("validate", False, {}),
        ("validate", True, {"ema_decay": 0.9}),
        ("test", True, {"execution": Execution(test_time_flip=True)}),
    ],
)
def test_an_evaluation_names_the_first_batches(
    tmp_path: Path, stage: str, multi_label: bool, options: dict[str, Any]
) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3, multi_label=multi_label), **options)
    with pytest.raises(SharedError) as error:
        getattr(trainer(tmp_path), stage)(task, loader([2, 5, 6], multi_label), verbose=False)
    name = "val" if stage == "validate" else "test"
    assert f"are NaN or infinite for 3 of 10 images ({name}), first batch 1, batch 2. Check" in str(error.value)
    getattr(trainer(tmp_path), stage)(task, loader([], multi_label), verbose=False)  # and no state remains


def test_the_sanity_check_finds_it_before_training(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    run = trainer(tmp_path)
    with pytest.raises(SharedError, match=r"for 1 of 8 images \(val\), first batch 2\."):  # of two batches
        run.fit(task, loader([]), loader([7, 9]))
    assert run.global_step == 0


def test_the_averaged_weights_are_named(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), ema_decay=0.9)
    assert task.model_ema is not None
    next(task.model_ema.module.parameters()).data.fill_(NAN)
    with pytest.raises(SharedError, match=r"outputs with averaged weights are NaN or infinite for 10 of 10 images"):
        trainer(tmp_path).validate(task, loader([]), verbose=False)


def test_logits_that_overflow_in_half_precision_alone(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    with torch.no_grad():
        task.model.get_classifier().bias += torch.tensor([0.0, 1e5, 0.0])  # above what float16 holds
    [full] = trainer(tmp_path, precision="32-true").validate(task, loader([]), verbose=False)
    assert full["val/acc1"] == pytest.approx(0.3)
    with pytest.raises(SharedError, match=r"for 10 of 10 images .* try --trainer.precision 32-true"):
        trainer(tmp_path, precision="16-true").validate(task, loader([]), verbose=False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_of_an_image_without_finite_logits_are_nan(multi_label: bool) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3, multi_label=multi_label))
    logits = torch.tensor([[1.0, 2, 3], [NAN, 0, 0], [INF, 0, 0], [-INF, 0, 0], [3.0, 2, 1]])
    scores = task.scores(logits)
    predictions = rank(scores, list("abcde"), multi_label=multi_label)
    assert predictions["finite"].tolist() == [True, False, False, False, True]
    assert scores[0].isfinite().all()
    assert scores[1:4].isnan().all()


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_one_of_two_mirrored_views_is_enough(multi_label: bool, value: float) -> None:
    task = ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=2, multi_label=multi_label), execution=Execution(test_time_flip=True)
    )

    def model(images: Tensor) -> Tensor:  # an image whose left edge is bright has no finite logits
        return torch.where(images[:, 0, 0, 0] > 0, value, 1.0)[:, None] * torch.tensor([[1.0, 0.5]])

    task.predictor = model
    images = torch.zeros(3, 3, 28, 28)
    images[1, :, :, 0], images[2, :, :, -1] = 1, 1
    assert task.scores(task(images)).isfinite().all(dim=1).tolist() == [True, False, False]


def lost_on_second() -> str:
    torch.distributed.init_process_group("gloo")
    rank_ = torch.distributed.get_rank()
    watch, seen = LogitGuard(), SimpleNamespace(world_size=2, val_dataloaders=loader([]))
    watch.begin("val", "val_ema")
    watch.note("val", torch.tensor([[0.0, 1.0], [NAN if rank_ else 0.0, 1.0]]), torch.tensor([True, True]))
    watch.note("val", torch.tensor([[INF, 1.0]]), torch.tensor([False]))  # padding
    with pytest.raises(SharedError) as error:
        watch.check(SimpleNamespace(trainer=seen), "val")  # type: ignore[arg-type]
    return str(error.value)


def test_ranks_stop_together(tmp_path: Path) -> None:
    [first, second] = run_ranks(2, lost_on_second, tmp_path / "out")
    assert first == second
    assert "for 1 of 6 images (val), first batch 1." in first


def test_a_checkpoint_of_nan_weights_is_refused_in_python(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    run = trainer(tmp_path, max_steps=1, num_sanity_val_steps=0)
    run.fit(task, loader([]))
    next(task.parameters()).data[0, 0, 0, 0] = NAN
    run.save_checkpoint(tmp_path / "nan.ckpt")
    fresh: LightningModule = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    with pytest.raises(UserError, match=r"The checkpoint contains NaN or infinite values in model\.stem\S+; use an"):
        trainer(tmp_path).validate(fresh, loader([]), ckpt_path=tmp_path / "nan.ckpt", weights_only=True)
