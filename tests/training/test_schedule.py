import math
from typing import Any

import pytest
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.poly import Poly
from inceptionnext_lit.training.schedule import Schedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:model.schedule.warmup_lr is"),  # asserted together with the other warning
]


def learning_rates(schedule: Schedule, peaks: list[float], total: int, per_epoch: float) -> list[list[float]]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.AdamW(groups)
    scheduler = schedule.build(optimizer, total, per_epoch)
    rates = []
    for _ in range(total):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


def test_warmup_cosine_cooldown_have_the_recipe_values() -> None:
    schedule = Schedule(warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=1)
    rates = [row[0] for row in learning_rates(schedule, [4e-3], total=100, per_epoch=10)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[10] == pytest.approx(1e-6 + (4e-3 - 1e-6) * 0.5)
    assert rates[20] == pytest.approx(4e-3)
    assert rates[55] == pytest.approx(1e-5 + (4e-3 - 1e-5) * (1 + math.cos(math.pi * 0.5)) / 2)
    assert rates[90:] == [pytest.approx(1e-5)] * 10


def test_each_group_keeps_its_own_peak() -> None:
    rates = learning_rates(Schedule(warmup_epochs=1, warmup_lr=0, min_lr=0), [1.0, 0.1], total=20, per_epoch=10)
    assert rates[10] == [pytest.approx(1.0), pytest.approx(0.1)]
    assert rates[15] == [pytest.approx(0.5), pytest.approx(0.05)]


def test_a_run_too_short_for_its_warmup_and_cooldown_has_both_shortened() -> None:
    """They get half of its steps; the cosine gets the rest."""
    schedule = Schedule(warmup_epochs=20, warmup_lr=0, min_lr=0, cooldown_epochs=10)
    with pytest.warns(UserWarning, match=r"A run of 2 epochs .* 20 and cooldown_epochs 10; .* to 0\.667 and 0\.333\.$"):
        rates = [row[0] for row in learning_rates(schedule, [1.0], total=12, per_epoch=6)]
    cosine = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, *cosine, 0, 0])


@pytest.mark.parametrize("unit", ["step", "epoch"])
def test_a_run_of_a_few_steps_still_trains(unit: Any) -> None:
    schedule = Schedule(unit=unit, warmup_epochs=20, warmup_lr=0, min_lr=0, cooldown_epochs=10, warmup_overlays=True)
    with pytest.warns(UserWarning, match=r"A run of 0\.00962 epochs is too short"):
        rates = [row[0] for row in learning_rates(schedule, [1.0], total=3, per_epoch=312)]
    assert rates == pytest.approx([0, 0.75, 0.25])  # one warmup step over a cosine of three


def test_a_run_as_long_as_its_warmup_has_room_for_none() -> None:
    with pytest.warns(UserWarning, match="too short"):
        rates = [row[0] for row in learning_rates(Schedule(warmup_epochs=1, warmup_lr=0), [1.0], total=4, per_epoch=4)]
    assert rates[:3] == pytest.approx([0, 0.5, 1.0])


def test_a_run_too_short_for_the_warmup_of_its_polynomial_decay() -> None:
    """Half of its steps are left for it."""
    schedule = Schedule(min_lr=0.0, poly=Poly(warmup_steps=50, warmup_ratio=0.5))
    with pytest.warns(UserWarning, match=r"^A run of 8 steps is too short for .*poly.warmup_steps 50; .* to 4\.$"):
        rates = [row[0] for row in learning_rates(schedule, [1.0], total=8, per_epoch=4)]
    expected = [(1 - step / 8) * min(1, 0.5 + 0.5 * step / 4) for step in range(8)]
    assert rates[:8] == pytest.approx(expected)
    with pytest.warns(UserWarning, match=r"A run of 1 step .* shortened to 0\.$"):
        assert learning_rates(schedule, [1.0], total=1, per_epoch=1)[0] == [pytest.approx(1.0)]


def test_negative_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.schedule\.warmup_epochs is -1"):
        Schedule(warmup_epochs=-1)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_invalid_learning_rates(value: float) -> None:
    with pytest.raises(UserError, match=rf"model\.schedule\.min_lr is {value}; it must be 0 or more"):
        Schedule(min_lr=value)


def test_a_peak_below_the_other_rates_replaces_them_with_a_warning() -> None:
    schedule = Schedule(warmup_epochs=1, warmup_lr=1e-4, min_lr=1e-3, cooldown_epochs=1)
    with pytest.warns(
        UserWarning, match=r"\.min_lr is 0\.001, above the peak rate \(1e-05\), which is used instead"
    ) as found:
        rates = [row[0] for row in learning_rates(schedule, [1e-5], total=40, per_epoch=10)]
    assert [str(one.message).split(",")[0] for one in found] == [
        "model.schedule.warmup_lr is 0.0001", "model.schedule.min_lr is 0.001",
    ]  # fmt: skip
    assert rates == [pytest.approx(1e-5)] * 40


def test_groups_of_lower_rates_do_not_rise_either() -> None:
    with pytest.warns(UserWarning, match=r"min_lr is 0\.01, above the peak rate of 1 of 2 parameter groups \(0\.001\)"):
        rates = learning_rates(Schedule(min_lr=1e-2), [1.0, 1e-3], total=20, per_epoch=10)
    assert rates[0] == [1.0, pytest.approx(1e-3)]
    assert rates[-1][0] < 0.05
    assert [row[1] for row in rates] == [pytest.approx(1e-3)] * 20


def test_a_peak_above_the_other_rates_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    learning_rates(Schedule(warmup_epochs=1, warmup_lr=1e-3, min_lr=1e-3), [1e-3], total=20, per_epoch=10)
    learning_rates(Schedule(warmup_epochs=0, warmup_lr=1.0, min_lr=1e-3), [1e-3], total=20, per_epoch=10)
    assert not [one for one in recwarn if "model.schedule" in str(one.message)]


NAMED = "torch.optim.lr_scheduler."


def optimizer_of(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def test_a_named_schedule_replaces_the_default() -> None:
    optimizer = optimizer_of(1.0, 0.1)
    found = Schedule(warmup_epochs=5, name=NAMED + "StepLR", kwargs={"step_size": 2, "gamma": 0.1}).attach(optimizer)
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        found["scheduler"].step()
    assert rates == [pytest.approx([1.0, 0.1])] * 2 + [pytest.approx([0.1, 0.01])] * 2
    assert found["interval"] == "epoch"
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("path", [NAMED + "ReduceLROnPlateau", "lightning.pytorch.cli.ReduceLROnPlateau"])
def test_a_schedule_that_waits_for_a_metric(path: str) -> None:
    optimizer = optimizer_of(1.0)
    found = Schedule(name=path, kwargs={"monitor": "val/acc1", "mode": "max", "patience": 0}).attach(optimizer)
    assert found["monitor"] == "val/acc1"
    for accuracy in (0.5, 0.6, 0.6):
        found["scheduler"].step(accuracy)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert optimizer.param_groups[0]["initial_lr"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "StepLRR"}, r"is 'StepLRR', which is not the path of a class; did you mean torch\.optim.*\.StepLR\?"),
        ({"kwargs": {"gamma": 1}}, r"model\.schedule\.kwargs is for another scheduler; give model\.schedule\.name too"),
        ({"interval": "step"}, r"model\.schedule\.interval is for another scheduler"),
        ({"name": NAMED + "ReduceLROnPlateau", "interval": "step"}, r"waits for an epoch's metric; leave out"),
    ],
)
def test_settings_that_do_not_go_together(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Schedule(**arguments)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("StepLR", None, r"'torch\.optim\.lr_scheduler\.StepLR' cannot be created with .* \{\}: .*'step_size'"),
        ("StepLR", {"gama": 1}, r"cannot be created with model\.schedule\.kwargs \{'gama': 1\}"),
        ("Nope", None, r"model\.schedule\.name is '.*Nope', which cannot be imported"),
        ("Tensor", None, r"which is not a subclass of torch's LRScheduler"),
    ],
)
def test_schedules_that_cannot_be_created(name: str, kwargs: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Schedule(name=NAMED + name, kwargs=kwargs).attach(optimizer_of(1.0))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, r"waits for the monitor 'None', which is not logged; did you mean"),
        ({"monitor": "val_loss"}, r"'val_loss', which is not logged; did you mean val/loss or"),
        ({"monitor": "val/acc1"}, r"waits for val/acc1 with mode min, which selects the worst value; .* mode: max"),
        ({"monitor": "val/loss", "mode": "max"}, r"set mode: min"),
    ],
)
def test_metrics_that_a_schedule_cannot_wait_for(kwargs: dict[str, Any], message: str) -> None:
    schedule = Schedule(name="lightning.pytorch.cli.ReduceLROnPlateau", kwargs=kwargs)
    with pytest.raises(UserError, match=message):
        schedule.check_monitor({"val/loss": "min", "val/acc1": "max"})
