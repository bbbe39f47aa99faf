"""Formulas from the code of the recipes' sources, and the construction of a recipe's objects."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from torch import nn

from inceptionnext_lit.tasks.backbone import create_backbone
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from tests.recipes import REPO

IMAGENET = 1_281_167  # training images
AUTHORS = ("atto", "tiny", "small", "base", "base_384", "tiny_ablations", "tiny_mlps", "convnext_tiny")
CONVNEXT = ("iso_s", "iso_s_mlps", "iso_b", "convnext_iso_s", "convnext_iso_b")
DEIT = ("metanext_attn_s", "deit_s", "deit_b")
RECIPES = (*AUTHORS, *CONVNEXT, *DEIT)
FAST = ("tiny", "iso_s", "deit_s")
recipes = pytest.mark.parametrize(
    "stem", [stem if stem in FAST else pytest.param(stem, marks=pytest.mark.slow) for stem in RECIPES]
)


class Recipe(NamedTuple):
    """Build the objects of one of the package's recipes."""

    config: dict[str, Any]
    schedule: Schedule
    optimizer: OptimizerOptions
    mix: Mix

    @property
    def steps_per_epoch(self) -> int:
        return int(IMAGENET // self.config["data"]["global_batch_size"])

    @property
    def epochs(self) -> int:
        return int(self.config["trainer"]["max_epochs"])

    def model(self) -> nn.Module:
        options = self.config["model"]
        arguments = {"drop_path_rate": options["drop_path"], **options.get("kwargs", {})}
        return create_backbone(options["name"], 1000, arguments, pretrained=False, preprocessing=None)[0]


def recipe(stem: str) -> Recipe:
    config = yaml.safe_load((REPO / f"configs/{stem}.yaml").read_text())
    model = config["model"]
    return Recipe(
        config, Schedule(**model["schedule"]), OptimizerOptions(**model["optimizer"]), Mix(**model["loss"]["mix"])
    )


def timm_rate(epoch: int, base: float, total: int, warmup: int, first: float, last: float) -> float:
    """``CosineLRScheduler`` of timm 0.6.11 without prefix and noise, at its minimum after ``total`` epochs."""
    if epoch < warmup:
        return first + epoch * (base - first) / warmup
    if epoch >= total:
        return last
    return last + 0.5 * (base - last) * (1 + math.cos(math.pi * epoch / total))


def convnext_rates(base: float, last: float, epochs: int, steps: int, warmup_epochs: int) -> list[float]:
    """``cosine_scheduler`` of ConvNeXt's ``utils.py``, with ``start_warmup_value`` 0."""
    warmup = np.linspace(0, base, warmup_epochs * steps)
    cosine = np.arange(epochs * steps - len(warmup))
    rest = [last + 0.5 * (base - last) * (1 + math.cos(math.pi * i / len(cosine))) for i in cosine]
    return [*warmup.tolist(), *rest]


def rates_of(stem: str) -> tuple[list[float], int]:
    """Return the learning rate of every step of a recipe by its source's formula, and the steps per epoch."""
    steps = IMAGENET // {"atto": 1280, "base_384": 1024}.get(stem, 1024 if stem in DEIT else 4096)
    if stem == "base_384":  # minimum and warm-up at the same 5e-5
        return [5e-5] * (30 * steps), steps
    if stem in CONVNEXT:
        return convnext_rates(4e-3, 1e-6, 300, steps, 50), steps
    if stem in DEIT:  # its loop steps the schedule with the number of the epoch that has ended
        by_epoch = [timm_rate(max(epoch - 1, 0), 1e-3, 300, 5, 1e-6, 1e-5) for epoch in range(300)]
    elif stem == "atto":
        by_epoch = [timm_rate(epoch, 1e-3, 600, 5, 5e-7, 5e-7) for epoch in range(610)]
    else:
        by_epoch = [timm_rate(epoch, 4e-3, 300, 20, 1e-6, 1e-5) for epoch in range(310)]
    return [rate for rate in by_epoch for _ in range(steps)], steps


def drop_path_rates(model: nn.Module) -> list[float]:
    """Of each block, in order."""
    paths = [getattr(block, "drop_path", None) or block.drop_path1 for block in blocks(model)]
    return [getattr(path, "drop_prob", 0.0) for path in paths]


def blocks(model: nn.Module) -> list[Any]:
    stages = [stage.blocks for stage in model.stages] if hasattr(model, "stages") else [model.blocks]
    return [block for stage in stages for block in stage]
