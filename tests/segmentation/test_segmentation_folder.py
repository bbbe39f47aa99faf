"""The recipe for one's own masks: what it derives from the data, and when it stops."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inceptionnext_lit.machine import CACHE_VARIABLE
from tests.recipes import REPO
from tests.scenes import write_pairs

Cli = Callable[..., None]
RECIPE = REPO / "configs/segment/folder.yaml"
TINY = ("--config", RECIPE, "--model.name", "inceptionnext_iso_micro", "--model.pretrained", "false")
TINY += ("--model.segmentation.decoder_kwargs", "{width: 8, head_width: 8}", "--data.num_workers", "0")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty images of 40 × 50 pixels without splits."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write_pairs(tmp_path / "data", counts={"": 20}, height=40, width=50)
    return tmp_path / "data"


def stored(name: str, kind: str = "last") -> dict[str, Any]:
    return torch.load(f"runs/{name}/version_0/checkpoints/{kind}.ckpt", weights_only=True)


def metrics(name: str, key: str) -> list[tuple[int, float]]:
    """Return the epoch and value of each validation."""
    with Path(f"runs/{name}/version_0/metrics.csv").open() as file:
        return [(int(row["epoch"]), float(row[key])) for row in csv.DictReader(file) if row[key]]


@pytest.mark.slow
def test_the_crop_and_class_weights_are_numbers_in_the_checkpoint(
    cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = ("--model.segmentation.loss.class_weights", "auto")
    cli("fit", *TINY, "--data.root", root, *auto, "--trainer.max_epochs", 1)
    said = capsys.readouterr().out
    assert "Derived:    data.crop_size 32, data.batch_size 8, model.segmentation.loss.class_weights [0." in said
    arguments = stored("segment_folder")["hyper_parameters"]
    weights = arguments["segmentation"]["loss"]["class_weights"]
    assert len(weights) == 3
    assert weights[0] < 1 < min(weights[1:])  # the background is common
    assert arguments["data_spec"]["preprocessing"]["image_size"] == 32
    saved = yaml.safe_load(Path("runs/segment_folder/version_0/config.yaml").read_text())
    assert saved["data"]["init_args"]["crop_size"] == 32
    assert saved["model"]["init_args"]["segmentation"]["loss"]["class_weights"] == weights
    write_pairs(root.parent / "larger", counts={"val": 2}, height=100, width=100)
    windows = ("--model.segmentation.inference.mode", "slide", "--data.root", root.parent / "larger")
    run = Path("runs/segment_folder/version_0")
    values = []
    for config in (run / "config.yaml", RECIPE):  # the recipe's auto is the run's crop, not one of other images
        checkpoint = ("--ckpt_path", run / "checkpoints/last.ckpt", "--output", f"{len(values)}.json")
        cli("validate", "--config", config, *TINY[2:], *checkpoint, *windows)
        values.append(json.loads(Path(checkpoint[-1]).read_text())["val/mIoU"])
    assert values[0] == values[1]


def test_it_stops_after_validations_without_improvement_and_keeps_the_best(cli: Cli, root: Path) -> None:
    cli("fit", *TINY, "--data.root", root, "--checkpoint.patience", 2, "--model.lr", 0.02)
    values = [value for _, value in metrics("segment_folder", "val_ema/mIoU")]
    best = values.index(max(values))
    assert len(values) == best + 1 + 2
    assert len(values) < 200
    assert stored("segment_folder", "best")["global_step"] == 2 * (best + 1)  # two steps of 8 of 16 images
    assert stored("segment_folder")["global_step"] == 2 * len(values)


def test_lengths_from_twenty_to_twenty_thousand_images() -> None:
    """Steps of batches as ``batch_size: auto`` chooses them, with a fifth held back."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    trainer, checkpoint = recipe["trainer"], recipe["checkpoint"]
    steps = {}
    for images, batch in ((16, 8), (160, 8), (1600, 16), (16_000, 16)):
        steps[images] = min(trainer["max_steps"], trainer["max_epochs"] * (images // batch))
    assert steps == {16: 400, 160: 4000, 1600: 20_000, 16_000: 20_000}
    assert checkpoint["patience"] == trainer["max_epochs"] // 4
    assert recipe["model"]["init_args"]["schedule"]["poly"]["warmup_steps"] <= steps[16] // 8
