"""Polynomial decay with warmup, step by step as MMSegmentation 0.x computes it."""

import pytest
import torch
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.poly import Poly
from inceptionnext_lit.training.schedule import Schedule


def mmcv_rate(step: int, total: int, peak: float, power: float, warmup: int, ratio: float, last: float) -> float:
    """``PolyLrUpdaterHook`` with linear warmup, by iteration."""
    regular = (peak - last) * (1 - step / total) ** power + last
    if step >= warmup:
        return regular
    return regular * (1 - (1 - step / warmup) * (1 - ratio))


@pytest.mark.parametrize(
    ("total", "peak", "power", "warmup"),
    [(160_000, 1e-4, 1.0, 1500), (40_000, 2e-4, 0.9, 0), (160_000, 6e-5, 1.0, 1500)],
)
def test_rates_are_mmsegmentations(total: int, peak: float, power: float, warmup: int) -> None:
    poly = Poly(power, warmup, 1e-6)
    for step in (0, 1, 2, 750, 1499, 1500, 1501, total // 2, total - 1):
        expected = mmcv_rate(step, total, peak, power, warmup, 1e-6, 0.0)
        assert poly.rate(step, total, peak, 0.0) == pytest.approx(expected, rel=1e-12)
    assert poly.rate(total, total, peak, 0.0) == 0.0


def test_groups_decay_from_their_own_peak() -> None:
    layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    optimizer = torch.optim.SGD(
        [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(layers, (1.0, 0.1), strict=True)]
    )
    schedule = Schedule(min_lr=0.0, poly=Poly(0.9, 2, 0.5)).build(optimizer, 10, 5)
    seen = []
    for _ in range(10):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    for step, (first, second) in enumerate(seen):
        assert first == pytest.approx(mmcv_rate(step, 10, 1.0, 0.9, 2, 0.5, 0.0))
        assert second == pytest.approx(first / 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poly(power=0), "model.schedule.poly.power is 0"),
        (lambda: Poly(warmup_steps=-1), "model.schedule.poly.warmup_steps is -1"),
        (lambda: Poly(warmup_ratio=0), "model.schedule.poly.warmup_ratio is 0"),
        (lambda: Schedule(poly=Poly(), warmup_epochs=5), "leave out model.schedule.warmup_epochs"),
        (lambda: Schedule(poly=Poly(), name="torch.optim.lr_scheduler.ExponentialLR"), "leave out model.schedule.name"),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]
