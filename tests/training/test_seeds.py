"""The seeds of runs in Python, and of data loaders that shuffle by torch's generator."""

import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.seeding import VARIABLE
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.base import run_callbacks
from inceptionnext_lit.training.schedule import Schedule

IMAGES = 12


class Noted(ClassificationTask):
    """A classifier that records the images of each batch, by their first pixel, and a random draw of each step."""

    def __init__(self) -> None:
        super().__init__(
            "inceptionnext_iso_micro", data_spec=DataSpec(["a", "b"]), lr=1e-2, schedule=Schedule(warmup_epochs=0)
        )
        self.seen: list[list[int]] = []
        self.drawn: list[float] = []

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        self.seen.append(batch[0][:, 0, 0, 0].int().tolist())
        self.drawn.append(float(torch.rand(())))
        return super().training_step(batch, batch_idx)


class Own(LightningDataModule):
    """Images of random numbers, the first pixel of each its index, in a loader as people write them."""

    def train_dataloader(self) -> DataLoader[Any]:
        images = torch.rand(IMAGES, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        images[:, 0, 0, 0] = torch.arange(IMAGES)
        return DataLoader(TensorDataset(images, torch.arange(IMAGES) % 2), batch_size=4, shuffle=True)


class SaveAfterTheFirst(Callback):
    """Save a checkpoint after the first epoch."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.file)


def fit(task: LightningModule, epochs: int, *callbacks: Callback, start: Path | None = None) -> None:
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "callbacks": list(callbacks)}
    Trainer(max_epochs=epochs, **settings).fit(task, Own(), ckpt_path=start)


@pytest.fixture(autouse=True)
def _no_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")  # removed afterwards if a test sets it
    monkeypatch.delenv(VARIABLE)


def test_runs_without_a_seed_differ() -> None:
    orders, draws, weights = [], [], []
    for _ in range(3):
        task = Noted()
        weights.append(float(task.model.state_dict()["head.weight"].sum()))
        fit(task, 1)
        orders.append(task.seen)
        draws.append(task.drawn)
    assert VARIABLE not in os.environ
    assert len(set(weights)) == 3
    assert len({str(order) for order in orders}) == 3
    assert len({str(drawn) for drawn in draws}) == 3


def test_torchs_seed_decides_if_there_is_no_other() -> None:
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        task = Noted()
        fit(task, 1)
        runs.append((task.seen, task.drawn))
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][1] != runs[2][1]


def test_generators_continue_after_a_run() -> None:
    seed_everything(4, verbose=False)
    task = Noted()
    expected = torch.random.get_rng_state()
    fit(task, 1)
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert os.environ[VARIABLE] == "4"

    def fail(*_: Any) -> Tensor:
        raise ValueError("an error of the user's")

    task.training_step = fail  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="the user's"):
        fit(task, 1)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_evaluation_draws_go_on() -> None:
    """A user's Monte Carlo dropout draws other masks in each evaluation."""
    drawn: list[float] = []

    class Drawing(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            drawn.append(float(torch.rand(())))

        def configure_callbacks(self) -> list[Any]:
            return run_callbacks()

    for _ in range(2):
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        trainer.validate(Drawing(), DataLoader(TensorDataset(torch.zeros(1, 1))), verbose=False)
    assert drawn[0] != drawn[1]
    assert VARIABLE not in os.environ


def test_a_shuffled_loader_of_ones_own_is_resumed_exactly(tmp_path: Path) -> None:
    seed_everything(3, verbose=False)
    whole = Noted()
    fit(whole, 3, SaveAfterTheFirst(tmp_path / "first.ckpt"))
    torch.manual_seed(99)  # as in another process, where other numbers were drawn before
    rest = Noted()
    fit(rest, 3, start=tmp_path / "first.ckpt")
    assert rest.seen == whole.seen[3:]
    assert [sorted(chain(*whole.seen[start : start + 3])) for start in (0, 3, 6)] == [list(range(IMAGES))] * 3
    assert whole.seen[:3] != whole.seen[3:6] != whole.seen[6:]
    for name, value in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], value), name
