"""The metrics that ``validate`` writes, on one and more ranks, compared with NumPy on saved masks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.recipes import REPO
from tests.scenes import write_pairs

Cli = Callable[..., None]
IMAGES = 101
CLASSES = 3


@pytest.mark.slow
def test_metrics_are_numpys_over_saved_masks_on_any_number_of_ranks(
    cli: Cli, shell: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write_pairs(tmp_path / "data", counts={"train": 8, "val": IMAGES}, height=40, width=50)
    cli(
        "fit", "--config", REPO / "configs/segment/folder.yaml", "--data.root", "data", "--run_name", "one",
        "--model.name", "inceptionnext_iso_micro", "--model.pretrained", "false", "--data.num_workers", 0,
        "--model.segmentation.decoder_kwargs", "{width: 8, head_width: 8}",
        "--trainer.max_epochs", 12, "--model.lr", 0.01, "--model.ema_decay", "null",
    )  # fmt: skip
    checkpoint = "runs/one/version_0/checkpoints/last.ckpt"
    cli("predict", "data/images/val", "--ckpt_path", checkpoint, "--output", "rows.csv")
    expected = over_masks(tmp_path / "rows/masks", tmp_path / "data/masks/val")
    for ranks in (1, 2, 3):
        done = shell(
            "validate", "--config", "runs/one/version_0/config.yaml", "--ckpt_path", checkpoint, "--output",
            f"{ranks}.json", "--trainer.devices", ranks, "--trainer.accelerator", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stored = json.loads(Path(f"{ranks}.json").read_text())
        assert {name: stored[f"val/{name}"] for name in expected} == pytest.approx(expected, rel=1e-9)


def over_masks(found: Path, true: Path) -> dict[str, float]:
    """Compute MMSegmentation's metrics, as its ``intersect_and_union`` and ``total_area_to_metrics`` define them."""
    areas = np.zeros((4, CLASSES))
    files = sorted(true.glob("*.png"))
    assert len(files) == IMAGES
    for file in files:
        label = np.asarray(Image.open(file))
        pred = np.asarray(Image.open(found / file.name))
        pred, label = pred[label != 255], label[label != 255]
        each = (pred[pred == label], pred, label)
        counts = [np.histogram(one, bins=CLASSES, range=(0, CLASSES - 1))[0] for one in each]
        areas += [counts[0], counts[1] + counts[2] - counts[0], counts[1], counts[2]]
    both, union, _, labeled = areas
    return {
        "mIoU": np.nanmean(both / union),
        "mAcc": np.nanmean(both / labeled),
        "aAcc": both.sum() / labeled.sum(),
    }
