"""Optimization of a task's model: incomplete steps, and invalid learning rates."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.optimized import Optimized
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

MICRO = "convnext_iso_nano"  # without BatchNorm, whose statistics would differ
RATE = 0.1


def task() -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=3), lr=RATE, weight_decay=0.0, schedule=Schedule(min_lr=RATE),
        optimizer=OptimizerOptions("momentum", kwargs={"momentum": 0.0}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "accumulated", "clip", "steps"),
    [
        (3, 2, None, [(0, 1), (2,)]),
        (0.5, 4, None, [(0, 1, 2)]),  # of six batches; not even one whole step
        (5, 3, 0.05, [(0, 1, 2), (3, 4)]),  # the gradient of the incomplete step is clipped
        (4, 2, None, [(0, 1), (2, 3)]),
    ],
)
def test_an_incomplete_step_has_the_mean_gradient_of_its_batches(
    tmp_path: Path, limit: Any, accumulated: int, clip: float | None, steps: list[tuple[int, ...]]
) -> None:
    images = torch.randn(12, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(12) % 3
    trained = task()
    trainer = Trainer(
        max_epochs=1, accumulate_grad_batches=accumulated, limit_train_batches=limit, gradient_clip_val=clip,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(trained, DataLoader(TensorDataset(images, labels), batch_size=2))
    assert trainer.global_step == len(steps)
    expected = task().model.train()
    optimizer = torch.optim.SGD(expected.parameters(), lr=RATE)
    for batches in steps:
        optimizer.zero_grad()
        for number in batches:
            part = slice(2 * number, 2 * number + 2)
            (F.cross_entropy(expected(images[part]), labels[part]) / len(batches)).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(expected.parameters(), clip)
        optimizer.step()
    for (name, ours), theirs in zip(trained.model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5, float("nan")])
def test_an_average_that_would_never_move_or_run_away(decay: float) -> None:
    with pytest.raises(UserError, match=r"^model\.ema_decay is \S+; it must be at least 0 and less than 1\.$"):
        ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), ema_decay=decay)
    assert (
        ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), ema_decay=0.0).model_ema
        is not None
    )


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_invalid_learning_rates(lr: float) -> None:
    with pytest.raises(UserError, match=r"^model\.lr is \S+; it must be greater than 0\.$"):
        ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), lr=lr)


@pytest.mark.parametrize(
    ("epochs", "begun", "batches", "steps"),
    [
        *(
            (0, 0, 0, 0),
            (0, 1, 1, 0),
            (0, 1, 3, 1),
            (0, 1, 4, 2),
            (0, 1, 5, 3),
            (1, 1, 0, 3),
            (1, 2, 2, 4),
            (2, 3, 5, 9),
        ),
        (1, 1, 5, 3),  # these batches are of the epoch before
    ],
)
def test_the_steps_of_a_place_in_a_run(epochs: int, begun: int, batches: int, steps: int) -> None:
    """For epochs of five batches and three steps, the last of which has one batch."""
    epoch_loop = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=batches)))
    progress = SimpleNamespace(current=SimpleNamespace(processed=epochs, ready=begun))
    fit_loop = SimpleNamespace(epoch_loop=epoch_loop, epoch_progress=progress)
    trainer = SimpleNamespace(accumulate_grad_batches=2, num_training_batches=5, fit_loop=fit_loop)
    assert Optimized._steps_by_now(SimpleNamespace(trainer=trainer)) == steps  # type: ignore[arg-type]
