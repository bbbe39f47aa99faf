"""Every recipe parses, builds and trains a step on a folder of small images."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.recipes import REPO

CONFIGS = sorted((REPO / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_recipe_says_where_it_comes_from(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for heading in ("Source:", "Command:", "Batch:", "Expected:"):
        assert any(line.startswith(f"# {heading}") for line in header), heading


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_recipe_trains_a_step(
    config: Path,
    shell: Callable[..., subprocess.CompletedProcess[str]],
    make_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat"))
    done = shell(
        "fit", "--config", config, "--data.root", root, "--data.batch_size", 4, "--trainer.max_steps", 1,
        "--trainer.accumulate_grad_batches", 1, "--model.kwargs", "{pretrained: false}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / config.stem / "version_0"
    recipe, used = yaml.safe_load(config.read_text()), yaml.safe_load((run / "config.yaml").read_text())
    assert used["model"]["init_args"]["lr"] == pytest.approx(float(recipe["model"]["lr"]))
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 1
    assert last["hyper_parameters"]["name"] == recipe["model"]["name"]


def test_iso_s_is_the_papers_recipe() -> None:
    recipe = yaml.safe_load((REPO / "configs/iso_s.yaml").read_text())
    trainer, data, model = recipe["trainer"], recipe["data"], recipe["model"]
    assert 8 * data["batch_size"] * trainer["accumulate_grad_batches"] == 4096
    assert trainer["max_epochs"] == 300
    assert model["name"] == "inceptionnext_iso_small"
    assert (float(model["lr"]), model["weight_decay"], model["drop_path"]) == (4e-3, 0.05, 0.1)
    assert (model["label_smoothing"], model["ema_decay"]) == (0.1, 0.9999)
    assert (model["mix"]["mixup"], model["mix"]["cutmix"], model["mix"]["switch_prob"]) == (0.8, 1.0, 0.5)
    assert model["schedule"]["warmup_epochs"] == 50
    augmentation = data["augmentation"]
    assert augmentation["scale"] == [0.08, 1.0]
    assert (augmentation["rand_augment_magnitude"], augmentation["rand_augment_std"]) == (9, 0.5)
    assert augmentation["rand_augment_increasing"] is True
    assert (augmentation["erasing"], augmentation["interpolation"]) == (0.25, "random")
    assert (data["image_size"], data["crop_pct"]) == (224, 0.875)
