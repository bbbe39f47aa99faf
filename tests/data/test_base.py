"""The base class of data modules."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from inceptionnext_lit.data import BaseDataModule
from inceptionnext_lit.errors import UserError


class Numbers(Dataset[Tensor]):
    """Each sample is its index and three draws."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, random.random(), np.random.rand(), float(torch.rand(()))], dtype=torch.float64)


class Data(BaseDataModule):
    """Ten samples for each split."""

    def __init__(self, batch_size: int, global_batch_size: int | None = None, num_workers: int = 0) -> None:
        super().__init__(batch_size, global_batch_size, num_workers)
        self.train_set = self.val_set = Numbers()


class Marked(Data):
    """A data module that marks padding samples."""

    def uncounted(self, sample: Tensor) -> Tensor:
        return torch.full_like(sample, -1)


def on(data: BaseDataModule, world_size: int = 1, rank: int = 0) -> BaseDataModule:
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=world_size, global_rank=rank, accumulate_grad_batches=1, overfit_batches=0, current_epoch=0
    )
    return data


def test_draws_belong_to_the_sample_and_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    here = on(Data(2)).train_dataloader()
    first, second = (torch.cat(list(here)) for _ in range(2))
    elsewhere = torch.cat(list(on(Data(5, num_workers=1)).train_dataloader()))
    assert torch.equal(first, elsewhere)
    assert sorted(first[:, 0].tolist()) == list(range(10))
    by_index = [of[of[:, 0].argsort()] for of in (first, second)]
    assert (by_index[0][:, 1:] != by_index[1][:, 1:]).all()
    state = random.getstate()
    list(here)
    assert random.getstate() == state


def test_a_global_batch_is_accumulated() -> None:
    """Accumulate without any support by the subclass."""
    data = on(Data(2, global_batch_size=10))
    assert len(data.train_dataloader()) == 5
    assert data.trainer.accumulate_grad_batches == 5
    assert data.step_size == 10
    with pytest.raises(UserError, match="more than the 10 training images"):
        on(Data(11)).train_dataloader()


@pytest.mark.parametrize("rank", [0, 1])
def test_padding_samples_are_marked(rank: int) -> None:
    """Three batches for two ranks: the second rank is padded with a sample."""
    seen = torch.cat(list(on(Marked(4), 2, rank).val_dataloader()))[:, 0].tolist()
    assert seen == ([0, 1, 2, 3, 8, 9] if rank == 0 else [4, 5, 6, 7, -1])
    if rank == 1:
        with pytest.raises(UserError, match=r"divided evenly among 2 ranks\. Define Data\.uncounted to mark"):
            list(on(Data(4), 2, rank).val_dataloader())
