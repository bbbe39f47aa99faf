"""A checkpoint from before tasks had a base class: one epoch on random images of a, b and c, with averaged weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_classifier
from tests.recipes import SMALL

CHECKPOINT = Path(__file__).with_name("before") / "base_task.ckpt"
Cli = Callable[..., None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 255, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"photos/{name}/{number}.png")
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore:The validation split has changed")  # the images differ
def test_old_checkpoint_is_resumed_evaluated_and_applied(
    cli: Cli, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(CHECKPOINT, tmp_path / "old.ckpt")
    words = ["--ckpt_path", "old.ckpt", "--data.root", photos]
    narrow = ["--model.kwargs", "{dim: 16, depth: 2}", "--model.ema_decay", 0.9]
    cli("fit", *SMALL, *words, *narrow, "--data.batch_size", 4, "--trainer.max_epochs", 2)
    assert "Continues:  old.ckpt after step 6, in epoch 2" in capsys.readouterr().out
    new = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert new["hyper_parameters"]["kwargs"] == {"dim": 16, "depth": 2}
    cli("validate", *words)
    assert "\nval_ema  " in capsys.readouterr().out
    cli("predict", photos, "--ckpt_path", "old.ckpt", "--output", "labels.csv")
    assert len(Path("labels.csv").read_text().splitlines()) == 19
    cli("convert", "old.ckpt", "--output", "old.safetensors")
    assert Path("old.safetensors").is_file()
    assert load_classifier("old.ckpt").class_names == ["a", "b", "c"]
