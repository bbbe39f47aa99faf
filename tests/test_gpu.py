"""What needs a CUDA device: python -m pytest -m gpu."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

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
