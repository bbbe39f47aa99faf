"""Tests that need a CUDA device; run python -m pytest -m gpu."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.input_format import input_format
from inceptionnext_lit.data.transforms.erasing import Erasure
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.callbacks.summary import RunSummary
from tests.recipes import SMALL

pytestmark = pytest.mark.gpu
INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize("name", ["inceptionnext_tiny", "inceptionnext_iso_small", "metanext_attn_small"])
def test_gpu_logits_match_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model, images = timm.create_model(name).eval(), torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = model(images)
        logits = model.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_a_gpu(
    shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, precision: str
) -> None:
    done = shell("fit", *SMALL, "--trainer.accelerator", "gpu", "--trainer.precision", precision)
    assert done.returncode == 0, done.stderr
    assert "on cuda:0" in done.stdout
    last = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/best.ckpt", weights_only=True)
    [best] = [state for key, state in last["callbacks"].items() if key.startswith("BestCheckpoint")]
    assert float(best["best_model_score"]) > 0.8


class NeverWaits(Callback):
    """Fail if a step from the fourth to the tenth waits for the GPU."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            torch.cuda.set_sync_debug_mode("error")
        if batch_idx == 10:
            torch.cuda.set_sync_debug_mode("default")
        self.steps += torch.cuda.get_sync_debug_mode() == 2


class Bar(RunProgressBar):
    """A progress bar as on a terminal, updated in each step."""

    def __init__(self) -> None:
        super().__init__()
        self._refresh_rate = 5

    def on_train_batch_end(self, *args: Any) -> None:
        self._made_at = 0.0
        super().on_train_batch_end(*args)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("mix", [None, Mix(mixup=0.8, cutmix=1.0)], ids=["plain", "mixed"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_step_never_waits_for_the_gpu(
    tmp_path: Path, mix: Mix | None, multi_label: bool, precision: Any
) -> None:
    labels = torch.eye(3).repeat(20, 1) if multi_label else torch.arange(60) % 3
    data = TensorDataset(torch.randn(60, 3, 28, 28), labels)
    task = ClassificationTask(
        "inceptionnext_iso_micro",
        data_spec=DataSpec(num_classes=3, preprocessing=INPUT, multi_label=multi_label),
        loss=LossOptions(mix=mix),
        ema_decay=0.9,
    )
    strict = NeverWaits()
    trainer = Trainer(
        accelerator="gpu", devices=1, precision=precision, max_epochs=1, gradient_clip_val=1.0, logger=False,
        callbacks=[Bar(), RunSummary(), strict], enable_checkpointing=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    try:
        trainer.fit(task, DataLoader(data, batch_size=4, pin_memory=True))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert strict.steps == 7
    assert trainer.global_step == 15
    assert trainer.optimizers[0].param_groups[0]["fused"]


@pytest.mark.parametrize("every_n_steps", ["2", "100"])
def test_a_nan_loss_on_a_gpu_stops_the_run_before_a_checkpoint(
    shell: Callable[..., subprocess.CompletedProcess[str]],
    make_folder: Callable[..., Path],
    tmp_path: Path,
    every_n_steps: str,
) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    place = "--trainer.callbacks"
    done = shell(
        "fit", *SMALL, "--data.root", root, "--data.batch_size", "3", "--trainer.accelerator", "gpu",
        "--trainer.max_epochs", "3", "--checkpoint.every_n_steps", every_n_steps, f"{place}+=tests.cli.moments.At",
        f"{place}.moment", "batch", f"{place}.number", "12", f"{place}.what", "nan", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The training loss is nan in step 12 (epoch 2, batch 4, lr 0.00" in done.stderr
    assert done.stderr.count(f"{root}/train/") == 3
    stored = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert stored["global_step"] == (10 if every_n_steps == "2" else 8)
    assert all(value.isfinite().all() for value in stored["state_dict"].values())


def test_a_batch_is_finished_exactly_and_asynchronously() -> None:
    to_input = ToInput(input_format(32, 3))
    draw = torch.Generator().manual_seed(0)
    pixels = stack_pixels([torch.randint(0, 256, (3, 32, 32), generator=draw, dtype=torch.uint8) for _ in range(4)])
    raw = RawImages(pixels, [None, Erasure(2, 4, 10, 8, seed=5), None, Erasure(2, 4, 10, 8, seed=5)]).pin_memory()
    raw.to(torch.device("cuda")).finished(to_input)  # copies the constants, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        images = raw.to(torch.device("cuda")).finished(to_input)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[1, :, 2:12, 4:12], images[3, :, 2:12, 4:12])
    expected = to_input(pixels)
    for erased in (1, 3):
        expected[erased, :, 2:12, 4:12] = images[erased, :, 2:12, 4:12].cpu()
    assert torch.equal(images.cpu(), expected)


def test_mixing_keeps_the_memory_format() -> None:
    images = torch.rand(4, 3, 8, 8, device="cuda").contiguous(memory_format=torch.channels_last)
    for mix in (Mix(mixup=0.8), Mix(cutmix=1.0)):
        mixed, _, _ = mix(images, torch.arange(4, device="cuda"), 4)
        assert mixed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_the_faster_form_of_mixers_is_chosen(
    shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    compiled: str,
) -> None:  # fmt: skip
    pytest.importorskip("triton")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    words = ["fit", *SMALL, "--trainer.accelerator", "gpu", "--trainer.precision", "bf16-mixed"]
    words += ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "5", "--model.execution.kernels", "auto"]
    done = shell(*words, "--model.execution.compile", compiled)
    assert done.returncode == 0, done.stderr
    assert "Kernels:    Triton for " in done.stdout
    with (tmp_path / "runs/quickstart/version_0/kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row["reason"] in ("faster", "not faster")
        assert float(row["torch_ms"]) > 0
        assert float(row["triton_ms"]) > 0


def test_training_as_cuda_graphs(shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    words = ["fit", *SMALL, "--trainer.accelerator", "gpu", "--trainer.precision", "bf16-mixed"]
    words += ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "20", "--model.ema_decay", "0.9"]
    words += ["--model.execution.compile", "true", "--model.execution.compile_mode", "reduce-overhead"]
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    stored = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert stored["global_step"] == 40
    assert all(value.isfinite().all() for value in stored["state_dict"].values())
