"""A task on a device without double precision; the inference form is tested in tests/models/test_deploy.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.device_metrics import exact_dtype
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.training.execution import Execution
from tests.without_float64 import WithoutFloat64

INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_training_and_testing_do_not_use_double_precision(tmp_path: Path, multi_label: bool) -> None:
    images = torch.randn(8, 3, 28, 28)
    labels = torch.eye(3)[torch.arange(8) % 3] if multi_label else torch.arange(8) % 3
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    task = ClassificationTask(
        "inceptionnext_iso_micro", ema_decay=0.9,
        data_spec=DataSpec(num_classes=3, preprocessing=INPUT, multi_label=multi_label),
        execution=Execution(test_time_flip=True), drop_path=0.1, loss=LossOptions(mix=Mix(mixup=0.8, cutmix=1.0)),
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, default_root_dir=tmp_path, gradient_clip_val=1.0,
    )  # fmt: skip
    with WithoutFloat64():
        trainer.fit(task, loader, loader)
        [metrics] = trainer.test(task, loader, verbose=False)
    assert 0 < metrics["test/loss"] < 2
    assert task.metrics.losses["of_test"].total.dtype == torch.float32
    expected: Any = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    [exact] = expected.test(task, loader, verbose=False)
    assert task.metrics.losses["of_test"].total.dtype == torch.float64
    assert metrics == pytest.approx(exact, abs=1e-6)


def test_the_precision_of_sums() -> None:
    assert exact_dtype(torch.device("cpu")) == torch.float64
    with WithoutFloat64():
        assert exact_dtype(torch.device("cpu")) == torch.float32
