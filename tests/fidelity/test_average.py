"""The average of the weights has its source's decay in every step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.optim import OptimizerOptions
from tests.fidelity.sources import RECIPES, recipe

STEPS = 6


class Recorded(ClassificationTask):
    """Record the weights after each step."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.seen = [self._weights()]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.seen.append(self._weights())

    def _weights(self) -> torch.Tensor:
        return self.model.head.weight.detach().clone()


def train(folder: Path, *, decay: float, warmup: bool) -> LightningModule:
    torch.manual_seed(0)
    task = Recorded(
        "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3), lr=0.5, ema_decay=decay, ema_warmup=warmup,
        optimizer=OptimizerOptions("sgd"),
    )  # fmt: skip
    images = TensorDataset(torch.randn(4 * STEPS, 3, 28, 28), torch.arange(4 * STEPS) % 3)
    Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    ).fit(task, DataLoader(images, batch_size=4))  # fmt: skip
    return task


@pytest.mark.parametrize(("decay", "warmup"), [(0.75, False), (0.9, True), (0.5, True)])
def test_the_decay_of_every_step(tmp_path: Path, decay: float, warmup: bool) -> None:
    """timm's ``ModelEmaV2`` and DeiT's: constant from the first step; with a warm-up, the first two steps copy."""
    task = train(tmp_path, decay=decay, warmup=warmup)
    first, *rest = task.seen
    average = first
    for step, weights in enumerate(rest):
        now = min(decay, 1 - max(step, 1) ** (-2 / 3)) if warmup else decay
        average = now * average + (1 - now) * weights
    assert len(rest) == STEPS
    torch.testing.assert_close(task.model_ema.module.head.weight, average, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("stem", RECIPES)
def test_recipes_average_as_their_sources_do(stem: str) -> None:
    """The window 1 / (1 - decay) is 10,000 steps: 32 epochs of 312 steps, 8 of 1251."""
    model = recipe(stem).config["model"]
    averages = stem == "base_384" or stem == "convnext_tiny" or "iso" in stem
    assert (model["ema_decay"], model.get("ema_warmup")) == ((0.9999, False) if averages else (None, None))
