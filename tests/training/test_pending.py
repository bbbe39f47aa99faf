"""Numbers that are read once they have arrived."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inceptionnext_lit.training.callbacks import signals
from inceptionnext_lit.training.callbacks.signals import SaveOnSignal
from inceptionnext_lit.training.pending import Pending


def test_on_a_cpu_a_number_is_available_at_once() -> None:
    pending = Pending(torch.tensor(2.5, requires_grad=True))
    assert not pending.is_late
    assert pending.read() == 2.5


class Late(Pending):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__(value)
        self.is_late = True


@pytest.mark.parametrize(("kind", "heard"), [(Pending, [0, 15, 15]), (Late, [0, 0, 15])])
def test_several_gpus_agree_on_a_signal_a_batch_later(
    monkeypatch: pytest.MonkeyPatch, kind: type[Pending], heard: list[int]
) -> None:
    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    monkeypatch.setattr(signals, "Pending", kind)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda number, op: None)
    callback = SaveOnSignal()
    got = [callback._agreed(trainer)]
    callback._received = signal.SIGTERM
    got += [callback._agreed(trainer), callback._agreed(trainer)]
    assert got == heard
