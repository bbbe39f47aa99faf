"""Division of positions by a multiplication, in Triton's interpreter."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

LARGEST = 2**31 - 1
Quotients = Callable[[Tensor, int], Tensor]
divide: Any = None  # the interpreted one, set by the fixture


def kernel(positions: Any, quotients: Any, divider: Any, BLOCK: tl.constexpr) -> None:
    i = tl.arange(0, BLOCK)
    tl.store(quotients + i, divide(tl.load(positions + i), divider))


@pytest.fixture
def quotients(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> Quotients:
    """Divide positions by a number."""
    division = import_module("inceptionnext_lit.models.kernels.division")
    monkeypatch.setitem(globals(), "divide", division.divide)
    interpreted = triton.jit(kernel)

    def run(positions: Tensor, number: int) -> Tensor:
        found = torch.empty_like(positions)
        interpreted[(1,)](positions, found, division.divider_of(number), BLOCK=len(positions))
        return found

    return run


@pytest.mark.parametrize("number", [1, 2, 3, 7, 8, 14, 56, 7 * 56, 3136, 65536, 65537, 10**9 + 7, 2**30 + 1, LARGEST])
def test_quotients_are_exact(number: int, quotients: Quotients) -> None:
    generator = torch.Generator().manual_seed(number)
    near = torch.arange(-2, 3) + number * torch.arange(max(1, LARGEST // number - 1), LARGEST // number + 1)[:, None]
    chosen = [torch.arange(256), torch.tensor([LARGEST]), near.flatten(), number * torch.arange(3), number - 1]
    random = torch.randint(0, LARGEST, (512,), generator=generator)
    everything = torch.cat([torch.as_tensor(part).flatten() for part in [*chosen, random]])
    positions = everything[(everything >= 0) & (everything <= LARGEST)][:512].to(torch.int32)
    positions = torch.cat([positions, positions.new_zeros(1024 - len(positions))])
    assert torch.equal(quotients(positions, number), positions // number)


def test_numbers_of_each_size(quotients: Quotients) -> None:
    generator = torch.Generator().manual_seed(0)
    for bits in range(1, 32):
        number = 2 ** (bits - 1) + int(torch.randint(0, 2 ** (bits - 1), (), generator=generator))
        positions = torch.randint(0, LARGEST, (64,), generator=generator, dtype=torch.int32)
        assert torch.equal(quotients(positions, number), positions // number)
