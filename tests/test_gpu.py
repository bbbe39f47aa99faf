"""What needs a CUDA device: python -m pytest -m gpu."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.erasing import Erasure
from inceptionnext_lit.data.transforms import input_format
from inceptionnext_lit.training.mixing import Mix
from tests.recipes import SMALL

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["inceptionnext_tiny", "inceptionnext_iso_small", "metanext_attn_small"])
def test_gpu_gives_the_logits_of_the_cpu(name: str) -> None:
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


def test_a_batch_is_finished_exactly_and_without_waiting() -> None:
    to_input = ToInput(input_format(32, 3, 0.875, None, None))
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


def test_mixing_keeps_the_layout() -> None:
    images = torch.rand(4, 3, 8, 8, device="cuda").contiguous(memory_format=torch.channels_last)
    for mix in (Mix(mixup=0.8), Mix(cutmix=1.0)):
        mixed, _, _ = mix(images, torch.arange(4, device="cuda"), 4)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
