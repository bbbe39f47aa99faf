"""Runs with loaders of one's own, with limited batches, and with one trainer for several runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import datamodule_of
from inceptionnext_lit.tasks import ClassificationTask, DataSpec, Schedule

BATCHES = 4


class Noted(ClassificationTask):
    """A classifier that records each batch by its place and its pixels, and each learning rate."""

    def __init__(self, data_spec: DataSpec | None = None) -> None:
        spec = data_spec or DataSpec(["a", "b"])
        super().__init__("inceptionnext_iso_micro", data_spec=spec, schedule=Schedule(warmup_epochs=0))
        self.seen: list[tuple[int, int, float]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self.seen.append((self.current_epoch, batch_idx, float(batch[0].sum())))
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


def own_loader(workers: int = 0) -> DataLoader[Any]:
    images = torch.randn(16 * BATCHES, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(len(images)) % 2)
    return DataLoader(data, batch_size=16, shuffle=True, num_workers=workers)


def trainer(*callbacks: ModelCheckpoint, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"callbacks": list(callbacks), "enable_checkpointing": bool(callbacks)}
    return Trainer(**{"max_epochs": 3, "accelerator": "cpu", **quiet, **options})


@pytest.mark.parametrize(
    ("is_own", "workers", "options"),
    [
        (True, 0, {}),
        (True, 2, {}),
        (False, 0, {"limit_val_batches": 0}),
        (False, 0, {"limit_val_batches": 1, "check_val_every_n_epoch": 2}),
        (False, 0, {"limit_val_batches": 1}),
    ],
    ids=["own loader", "with processes", "no validation", "every other validation", "validation"],
)
def test_checkpoints_of_an_epochs_last_batch(
    tmp_path: Path, is_own: bool, workers: int, options: dict[str, Any]
) -> None:
    """There, no further batch of the epoch is trained on, also if a loader has more."""

    def run(folder: Path, start: Path | None = None) -> Noted:
        seed_everything(0, verbose=False)
        data: Any = own_loader(workers)
        if not is_own:
            data = ImageFolderDataModule("sample", image_size=28, batch_size=16, num_workers=0)
        task = Noted(None if is_own else data.data_spec)
        saved = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=BATCHES)
        limits = options if is_own else {"limit_train_batches": BATCHES, **options}
        trainer(saved, **limits).fit(task, data, ckpt_path=start)
        return task

    whole = run(tmp_path / "whole")
    assert [place[:2] for place in whole.seen] == [(epoch, batch) for epoch in range(3) for batch in range(BATCHES)]
    for step in (BATCHES, 2 * BATCHES):
        rest = run(tmp_path / "rest", tmp_path / f"whole/step={step}.ckpt")
        assert rest.seen == whole.seen[step:]
        assert rest.rates == whole.rates[step:]
        for name, value in whole.state_dict().items():
            assert torch.equal(rest.state_dict()[name], value), name


def test_one_trainer_continues_its_schedule() -> None:
    seed_everything(0, verbose=False)
    whole = Noted()
    trainer().fit(whole, own_loader())
    one, task = trainer(max_epochs=1), Noted()
    one.fit(task, own_loader())
    one.fit_loop.max_epochs = 3
    one.fit(task, own_loader())
    assert task.rates[BATCHES:] == pytest.approx(whole.rates[BATCHES:])


class Endless(IterableDataset[Any]):
    """A stream of images without a length."""

    def __iter__(self) -> Any:
        while True:
            yield torch.rand(3, 28, 28), 0


def test_a_stream_needs_a_number_of_batches() -> None:
    stream = DataLoader(Endless(), batch_size=2)
    with pytest.raises(UserError, match=r"^The training loader has no length, so that the schedule does not know an"):
        trainer(max_epochs=1).fit(Noted(), stream)
    with pytest.raises(UserError, match=r"set trainer\.limit_train_batches to the batches of an epoch\.$"):
        trainer(max_epochs=-1, max_steps=3).fit(Noted(), stream)
    task = Noted()
    trainer(max_epochs=2, limit_train_batches=3).fit(task, stream)
    assert [place[:2] for place in task.seen] == [(epoch, batch) for epoch in range(2) for batch in range(3)]


def test_a_data_module_of_an_earlier_run_is_not_the_runs() -> None:
    """Lightning keeps it as ``trainer.datamodule`` when loaders are given."""
    data = ImageFolderDataModule("sample", image_size=28, batch_size=16, num_workers=0)
    one = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    one.fit(Noted(data.data_spec), data)
    assert datamodule_of(one) is data
    two = Noted(DataSpec(["cat", "dog"]))
    one.fit_loop.max_epochs = 2
    one.fit(two, own_loader())
    assert datamodule_of(one) is None
    assert len(two.seen) == 1
    checkpoint = one._checkpoint_connector.dump_checkpoint()
    assert checkpoint["data_fingerprint"] == {}
    assert not [key for key in checkpoint["run"] if key.startswith("data.")]
    one.validate(two, own_loader(), verbose=False)
