"""The segmentation quickstart through the command line: training, resuming, several ranks, and the guide's commands."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image

from tests.pages import DOCS, commands
from tests.recipes import REPO

Cli = Callable[..., None]
RECIPE = REPO / "configs/segment/quickstart.yaml"
SMALL = (
    *("--model.name", "inceptionnext_iso_micro", "--data.batch_size", 4, "--trainer.limit_train_batches", 3),
    *("--trainer.check_val_every_n_epoch", 1, "--model.schedule.poly.warmup_steps", 2),
)


@pytest.fixture(scope="module", autouse=True)
def few_scenes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fewer scenes, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCEPTIONNEXT_LIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("inceptionnext_lit.data.sources.scenes.COUNTS", {"train": 16, "val": 5})
        yield


def weights(run: str) -> dict[str, Any]:
    return torch.load(f"runs/{run}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]


class StopInTheSecondEpoch(Callback):
    """Send SIGTERM after the fourth step."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_is_resumed_exactly(cli: Cli) -> None:
    words = ("fit", "--config", RECIPE, *SMALL, "--model.ema_decay", 0.9, "--trainer.max_epochs", 2)
    cli(*words, "--run_name", "whole")
    stop = f"--trainer.callbacks+={__name__}.StopInTheSecondEpoch"
    with pytest.raises(SystemExit):
        cli(*words, "--run_name", "parts", stop)
    assert torch.load("runs/parts/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    cli(*words, "--run_name", "parts", "--ckpt_path", "last")
    whole, parts = weights("whole"), weights("parts")
    assert whole.keys() == parts.keys()
    differing = [name for name, one in whole.items() if not torch.equal(one, parts[name])]
    assert differing == []


@pytest.mark.slow
def test_metrics_are_the_same_on_any_number_of_ranks(cli: Cli, shell: Callable[..., Any], tmp_path: Path) -> None:
    cli("fit", "--config", RECIPE, *SMALL, "--trainer.max_epochs", 1, "--run_name", "one")
    metrics = []
    for ranks in (1, 2, 3):
        done = shell(
            "validate", "--config", "runs/one/version_0/config.yaml", "--ckpt_path",
            "runs/one/version_0/checkpoints/last.ckpt", "--data.batch_size", 1, "--trainer.devices", ranks,
            "--trainer.accelerator", "cpu", "--output", f"{ranks}.json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stored = json.loads(Path(f"{ranks}.json").read_text())
        metrics.append({name: value for name, value in stored.items() if name.startswith("val/")})
    assert {"val/mIoU", "val/mAcc", "val/aAcc", "val/loss", "val/IoU/bag"} <= metrics[0].keys()
    assert metrics[1] == metrics[0]
    assert metrics[2] == metrics[0]


def test_the_guide_s_first_commands(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = [words for words in commands(DOCS / "guides/segment.md") if words[0] == "python"]
    fit, validate, folder, predict, *others = every
    assert [words[4] for words in (fit, folder, *others)] == [
        "configs/segment/quickstart.yaml",
        "configs/segment/folder.yaml",  # tests/segmentation/test_segmentation_folder.py runs it
        "configs/segment/upernet_t.yaml",
    ]
    (tmp_path / "configs").symlink_to(REPO / "configs")
    cli(*fit[2:], *SMALL, "--trainer.max_epochs", 1)
    assert "best.ckpt --output segmented.csv" in capsys.readouterr().out
    cli(*validate[2:])
    assert "IoU/ankle-boot" in capsys.readouterr().out
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.jpg")
    cli(*("photo.jpg" if word == "PHOTOS" else word for word in predict[2:]))
    assert Image.open(tmp_path / "segmented/masks/photo.png").size == (50, 40)
