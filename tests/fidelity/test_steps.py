"""Thirty steps from end to end, compared with a plain loop, in double precision."""

import math
from pathlib import Path

import pytest
import timm
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from tests.fidelity.sources import timm_rate

EPOCHS, STEPS, ACCUMULATED, BATCH = 6, 5, 2, 4
DECAY = 0.9


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    count = STEPS * ACCUMULATED * BATCH
    return torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64), torch.arange(count) % 5


NARROW = {
    "inceptionnext_nano": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "inceptionnext_iso_micro": {"depth": 2},
    "convnext_iso_nano": {"depth": 2, "dim": 24},
}


def by_hand(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """AdamW with weight decay on matrices and kernels, a learning rate per epoch, accumulation, clipping and EMA."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **NARROW[name]).double().train()
    spared = [p for p in model.parameters() if p.ndim <= 1]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": spared, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8, fused=False, foreach=False)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    pixels, labels = images()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = timm_rate(epoch, 2e-3, EPOCHS - 1, 2, 1e-6, 1e-5)
        for step in range(STEPS):
            for part in range(ACCUMULATED):
                first = (step * ACCUMULATED + part) * BATCH
                chosen = slice(first, first + BATCH)
                (loss(model(pixels[chosen]), labels[chosen]) / ACCUMULATED).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    average[key].mul_(DECAY).add_(value, alpha=1 - DECAY)
    return model, average


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "inceptionnext_iso_micro")) for name in NARROW]
)
def test_thirty_steps(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    task = ClassificationTask(
        name, kwargs=NARROW[name], data_spec=DataSpec(num_classes=5), loss=LossOptions(label_smoothing=0.1), lr=2e-3,
        weight_decay=0.05, ema_decay=DECAY, ema_warmup=False,
        schedule=Schedule(
            unit="epoch", warmup_epochs=2, warmup_overlays=True, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=1
        ),
        optimizer=OptimizerOptions(kwargs={"betas": [0.9, 0.999], "eps": 1e-8}),
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=EPOCHS, accumulate_grad_batches=ACCUMULATED, gradient_clip_val=1.0, precision="64-true",
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, DataLoader(TensorDataset(*images()), batch_size=BATCH))
    assert trainer.global_step == EPOCHS * STEPS == 30
    expected, average = by_hand(name)
    assert math.isfinite(float(trainer.callback_metrics["train/loss"]))
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(task.model.state_dict()[key], value, rtol=1e-9, atol=1e-9, msg=key)
        if value.is_floating_point():
            mean = task.model_ema.module.state_dict()[key]
            torch.testing.assert_close(mean, average[key], rtol=1e-9, atol=1e-9, msg=key)
