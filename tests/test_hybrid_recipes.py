"""The recipes of the hybrids have the numbers of their parents' code, repeated here independently."""

import math
import re
from typing import Any

import pytest
import torch
import yaml

from inceptionnext_lit.models import HYBRIDS
from inceptionnext_lit.training.schedule import Schedule
from tests.recipes import REPO

ROWS = {row.name: row for row in HYBRIDS}
SWIN = ("swin_tiny_inception", "swin_tiny_inception_stages12")
each = pytest.mark.parametrize("name", ROWS)


def read(name: str) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((REPO / f"configs/hybrids/{name}.yaml").read_text())
    return recipe


def header(name: str) -> list[str]:
    lines = (REPO / f"configs/hybrids/{name}.yaml").read_text().splitlines()
    return [line[1:].strip() for line in lines if line.startswith("#")]


def test_each_hybrid_has_a_recipe() -> None:
    assert {path.stem for path in (REPO / "configs/hybrids").glob("*.yaml")} == set(ROWS)


@each
def test_header(name: str) -> None:
    row, recipe = ROWS[name], read(name)
    lines = header(name)
    text = " ".join(lines)
    cost = f" on ImageNet-1K: {row.params_m:.0f} M parameters, {row.macs_g:.1f} G MACs, no published top-1."
    assert lines[0].endswith(cost)
    assert f"Command:  python cli.py fit --config configs/hybrids/{name}.yaml --data.root IMAGENET" in lines
    assert f"(val/acc1) after {recipe['trainer']['max_epochs']} epochs. Not run here: it takes days on eight" in text
    total, batch = recipe["data"]["global_batch_size"], recipe["data"]["batch_size"]
    counts = [total // batch // devices for devices in (8, 4, 2, 1)]
    found = re.search(
        r"(\d+) images per step .* = 8 devices × (\d+) \(data.batch_size\) × (\d+) accumulated. lr (\S+) is for (\d+)\."
        r".*: (\d+) on 4, (\d+) on 2, (\d+) on 1\.",
        text,
    )
    assert found is not None
    assert [int(found[n]) for n in (1, 2, 3, 5, 6, 7, 8)] == [total, batch, counts[0], total, *counts[1:]]
    assert float(found[4]) == recipe["model"]["lr"]
    depths = ", ".join(map(str, row.args["depths"]))
    assert f"({depths}) blocks" in text


@each
def test_settings_of_all(name: str) -> None:
    recipe = read(name)
    model, augmentation = recipe["model"], recipe["data"]["augmentation"]
    assert model["name"] == name
    assert (model["weight_decay"], model["ema_decay"], recipe["trainer"]["precision"]) == (0.05, None, "bf16-mixed")
    mix = model["loss"]["mix"]
    assert (mix["mixup"], mix["cutmix"], mix["prob"], mix["switch_prob"]) == (0.8, 1.0, 1.0, 0.5)
    assert (model["loss"]["name"], model["loss"]["label_smoothing"]) == ("cross_entropy", 0.1)
    assert (augmentation["erasing"], augmentation["repeats"], augmentation["hflip"]) == (0.25, 1, 0.5)
    assert (augmentation["rand_augment_magnitude"], augmentation["rand_augment_std"]) == (9, 0.5)
    assert recipe["data"]["input"]["crop_pct"] == ROWS[name].crop_pct


@pytest.mark.parametrize(
    ("name", "optimizer", "eps", "lr", "drop_path"),
    [("convformer_s18_inception", "adamw", 1e-8, 4e-3, 0.2), ("caformer_s18_inception", "lamb", 1e-6, 8e-3, 0.15)],
)
def test_numbers_of_metaformer(name: str, optimizer: str, eps: float, lr: float, drop_path: float) -> None:
    recipe = read(name)
    data, model = recipe["data"], recipe["model"]
    assert (recipe["trainer"]["max_epochs"], recipe["trainer"]["gradient_clip_val"]) == (310, None)
    assert (data["global_batch_size"], model["lr"], model["drop_path"]) == (4096, lr, drop_path)
    assert model["optimizer"]["name"] == optimizer
    assert model["optimizer"]["kwargs"] == {"betas": [0.9, 0.999], "eps": eps}
    assert model["schedule"] == {
        "unit": "epoch", "warmup_epochs": 20, "warmup_overlays": True, "warmup_lr": 1e-6, "min_lr": 1e-5,
        "cooldown_epochs": 10,
    }  # fmt: skip
    assert (data["augmentation"]["interpolation"], model["loss"]["mix"]["order"]) == ("random", "before_erasing")
    assert data["input"]["crop_pct"] == 1.0


@pytest.mark.parametrize("name", SWIN)
def test_numbers_of_swin(name: str) -> None:
    recipe = read(name)
    data, model = recipe["data"], recipe["model"]
    assert (recipe["trainer"]["max_epochs"], recipe["trainer"]["gradient_clip_val"]) == (300, 5.0)
    assert (data["global_batch_size"], model["lr"], model["drop_path"]) == (1024, 1e-3, 0.2)  # 5e-4 × 1024 / 512
    adamw = {"name": "adamw", "layer_decay": 1.0, "kwargs": {"betas": [0.9, 0.999], "eps": 1e-8}}
    assert model["optimizer"] == adamw
    assert (data["augmentation"]["interpolation"], model["loss"]["mix"]["order"]) == ("bicubic", "after_erasing")
    assert data["input"]["crop_pct"] == 0.875


def test_the_learning_rate_of_swin_is_its_formula() -> None:
    """timm's ``CosineLRScheduler`` in steps with ``warmup_prefix``, from 1e-6 to 1e-3 and to 1e-5."""
    model = read(SWIN[0])["model"]
    steps, epochs, warmup = 1251, 300, 20
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    factor = Schedule(**model["schedule"]).build(optimizer, steps * epochs, steps).lr_lambdas[0]
    for step in (0, 1, steps * warmup - 1, steps * warmup, steps * 160, steps * epochs - 1):
        if step < steps * warmup:
            expected = 1e-6 + step * (1e-3 - 1e-6) / (steps * warmup)
        else:
            done = (step - steps * warmup) / (steps * (epochs - warmup))
            expected = 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * done))
        assert 1e-3 * factor(step) == pytest.approx(expected, rel=1e-9), step
