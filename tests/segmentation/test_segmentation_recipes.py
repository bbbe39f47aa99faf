"""The recipes for ADE20K have the numbers of the sources in their headers, repeated here independently."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.recipes import REPO

FOLDER = REPO / "configs/segment"
# recipe, backbone, drop path, lr, weight decay, layer decay, norm of the maps, testing
UPERNET = """
upernet_t           inceptionnext_tiny            0.3  6e-5  0.01  1.0  batch  whole
upernet_s           inceptionnext_small           0.3  6e-5  0.01  1.0  batch  whole
upernet_b           inceptionnext_base            0.3  6e-5  0.01  1.0  batch  whole
upernet_swin_t      swin_tiny_patch4_window7_224  0.3  6e-5  0.01  1.0  layer  whole
upernet_convnext_t  convnext_tiny                 0.4  1e-4  0.05  0.9  layer  slide
"""
SEMANTIC_FPN = """
fpn_t         inceptionnext_tiny   batch
fpn_s         inceptionnext_small  batch
fpn_b         inceptionnext_base   batch
fpn_resnet50  resnet50             none
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def read(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the trainer's, the data's and the model's keys."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert content["checkpoint"] == {"monitor": "val/mIoU"}
    assert content["model"]["class_path"].endswith(".SegmentationTask")
    assert content["data"]["class_path"].endswith(".SegmentationDataModule")
    return content["trainer"], content["data"]["init_args"], content["model"]["init_args"]


def assert_common(trainer: dict[str, Any], data: dict[str, Any], model: dict[str, Any]) -> None:
    assert (data["crop_size"], data["scale"], data["augmentation"]) == (512, [2048, 512], "mmseg")
    assert (data["input"]["mean"], data["input"]["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert trainer["sync_batchnorm"] is True
    assert trainer["gradient_clip_val"] is None
    assert data["global_batch_size"] == 8 * data["batch_size"]
    assert (model["pretrained"], model["ema_decay"]) == (True, None)
    assert (model["optimizer"]["name"], model["optimizer"]["kwargs"]) == ("adamw", {"betas": [0.9, 0.999], "eps": 1e-8})
    assert model["schedule"]["min_lr"] == 0


@pytest.mark.parametrize(
    ("name", "backbone", "drop_path", "lr", "weight_decay", "layer_decay", "norm", "mode"), rows(UPERNET)
)
def test_upernet(
    name: str, backbone: str, drop_path: str, lr: str, weight_decay: str, layer_decay: str, norm: str, mode: str
) -> None:
    trainer, data, model = read(name)
    assert_common(trainer, data, model)
    assert (trainer["max_steps"], data["global_batch_size"]) == (160_000, 16)
    assert model["name"] == backbone
    numbers = (model["drop_path"], model["lr"], model["weight_decay"], model["optimizer"]["layer_decay"])
    assert numbers == tuple(map(float, (drop_path, lr, weight_decay, layer_decay)))
    assert model["schedule"]["poly"] == {"power": 1.0, "warmup_steps": 1500, "warmup_ratio": 1e-6}
    options = model["segmentation"]
    assert (options["decoder"], options["level_norm"], options["aux_weight"]) == ("upernet", norm, 0.4)
    expected = {"mode": "slide", "window": [512, 512], "stride": [341, 341]} if mode == "slide" else {"mode": "whole"}
    expected |= {"multiple": 4} if backbone.startswith("swin") else {}
    assert options["inference"] == expected


@pytest.mark.parametrize(("name", "backbone", "norm"), rows(SEMANTIC_FPN))
def test_semantic_fpn(name: str, backbone: str, norm: str) -> None:
    trainer, data, model = read(name)
    assert_common(trainer, data, model)
    assert (trainer["max_steps"], data["global_batch_size"]) == (40_000, 32)
    assert (model["name"], model["drop_path"], model["lr"], model["weight_decay"]) == (backbone, 0.0, 2e-4, 1e-4)
    assert model["optimizer"]["layer_decay"] == 1.0
    assert model["schedule"]["poly"] == {"power": 0.9, "warmup_steps": 0, "warmup_ratio": 1e-6}
    options = model["segmentation"]
    assert (options["decoder"], options["level_norm"]) == ("semantic_fpn", norm)
    assert options["inference"] == {"mode": "whole", "multiple": 32}


@pytest.fixture
def ade20k(tmp_path: Path) -> Path:
    """ADE20K's folder as downloaded, with eight images for training and two for validation."""
    root = tmp_path / "ADEChallengeData2016"
    rng = np.random.default_rng(0)
    for split, count in (("training", 8), ("validation", 2)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(count):
            stem = f"ADE_{split[:5]}_{number:08}"
            picture = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
            picture.save(root / f"images/{split}/{stem}.jpg")
            mask = rng.integers(0, 151, (6, 8), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(mask).save(root / f"annotations/{split}/{stem}.png")
    names = "".join(f"{number}\t0.1\t9\t9\tclass {number}\n" for number in range(1, 151))
    (root / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tName\n{names}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [row[0] for row in (*rows(UPERNET), *rows(SEMANTIC_FPN))])
def test_recipes_train_two_steps(name: str, cli: Callable[..., None], ade20k: Path, tmp_path: Path) -> None:
    cli(
        "fit", "--config", FOLDER / f"{name}.yaml", "--data.root", ade20k, "--data.batch_size", 2,
        "--data.global_batch_size", 4, "--trainer.max_steps", 2, "--trainer.val_check_interval", 2,
        "--trainer.devices", 1, "--trainer.accelerator", "cpu", "--data.num_workers", 0,
        "--data.crop_size", 64, "--data.scale", "[128, 64]", "--model.pretrained", "false",
        "--trainer.sync_batchnorm", "false",
    )  # fmt: skip
    [last] = tmp_path.glob("runs/*/version_0/checkpoints/last.ckpt")
    stored = torch.load(last, weights_only=True)
    assert stored["global_step"] == 2
    assert stored["run"]["trainer.accumulate_grad_batches"] == 2
    spec = stored["hyper_parameters"]["data_spec"]
    assert (spec["num_classes"], spec["class_names"][:2]) == (150, ["class 1", "class 2"])
    model = read(name)[2]
    groups = stored["optimizer_states"][0]["param_groups"]
    peaks = {group["initial_lr"] / model["lr"] for group in groups}
    decay = model["optimizer"]["layer_decay"]
    expected = {1.0} if decay == 1 else {decay**power for power in (0, 3, 4, 5, 6, 7)}
    assert sorted(peaks) == pytest.approx(sorted(expected))


def test_every_recipe_for_ade20k_is_in_the_tables() -> None:
    named = {row[0] for row in (*rows(UPERNET), *rows(SEMANTIC_FPN))}
    assert {Path(path).stem for path in FOLDER.glob("*.yaml")} - {"folder", "quickstart"} == named
