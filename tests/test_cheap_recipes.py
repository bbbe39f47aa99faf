"""The cheaper pretraining recipes have the numbers of their sources, and the cost that their headers state."""

import re
from typing import Any

import pytest
import timm
import yaml

from inceptionnext_lit.data.progressive import ProgressiveSize, check_sizes
from inceptionnext_lit.models.cost import image_macs
from tests.recipes import REPO

PARENTS = {"tiny_a3": "tiny", "iso_s_a3": "iso_s", "tiny_progressive": "tiny"}


def read(name: str) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((REPO / f"configs/{name}.yaml").read_text())
    return recipe


def header(stem: str) -> str:
    lines = (REPO / f"configs/recipes/{stem}.yaml").read_text().splitlines()
    return " ".join(" ".join(line[1:].strip() for line in lines if line.startswith("#")).split())


def gigamacs(recipe: dict[str, Any]) -> tuple[float, float]:
    """Return 1e9 multiply-adds per training image in the last epoch, and times the epochs over the whole run."""
    epochs, data = recipe["trainer"]["max_epochs"], recipe["data"]
    model = timm.create_model(recipe["model"]["name"])
    progressive = ProgressiveSize(check_sizes(data.get("progressive_size", [data["image_size"]])), epochs)
    counted = {size: image_macs(model, (3, *size)) or 0 for size in progressive.sizes}
    total = sum(counted[progressive.size(epoch)] for epoch in range(epochs))
    return counted[progressive.sizes[-1]] / 1e9, total / 1e9


def test_all_are_listed() -> None:
    assert {path.stem for path in (REPO / "configs/recipes").glob("*.yaml")} == set(PARENTS)


@pytest.mark.parametrize("stem", PARENTS)
def test_the_stated_cost(stem: str) -> None:
    recipe, parent = read(f"recipes/{stem}"), read(PARENTS[stem])
    assert recipe["model"]["name"] == parent["model"]["name"]
    image, total = gigamacs(recipe)
    share = f"{total / gigamacs(parent)[1]:.0%}"
    assert f"{share} of the multiply-adds of configs/{PARENTS[stem]}.yaml." in header(stem)
    if stem.endswith("a3"):
        assert f"{image:.3g} G multiply-adds a training image, {share} of the {PARENTS[stem]} recipe's" in header(stem)


@pytest.mark.parametrize("stem", ["tiny_a3", "iso_s_a3"])
def test_numbers_of_procedure_a3(stem: str) -> None:
    recipe = read(f"recipes/{stem}")
    data, model = recipe["data"], recipe["model"]
    assert (recipe["trainer"]["max_epochs"], data["global_batch_size"]) == (100, 2048)
    assert (data["progressive_size"], data["image_size"], data["input"]["crop_pct"]) == ([160], 224, 0.95)
    assert (model["optimizer"]["name"], model["lr"], model["weight_decay"]) == ("lamb", 8e-3, 0.02)
    assert (model["schedule"]["warmup_epochs"], model["schedule"]["cooldown_epochs"]) == (5, 0)
    assert (model["loss"]["name"], model["loss"]["label_smoothing"], model["drop_path"]) == ("bce", 0, 0)
    mix, augmentation = model["loss"]["mix"], data["augmentation"]
    assert (mix["mixup"], mix["cutmix"], mix["prob"], mix["switch_prob"]) == (0.1, 1.0, 1.0, 0.5)
    assert (augmentation["rand_augment_magnitude"], augmentation["rand_augment_std"]) == (6, 0.5)
    assert (augmentation["erasing"], augmentation["color_jitter"], augmentation["repeats"]) == (0, 0, 1)
    assert model["ema_decay"] is None


def test_progressive_recipe_is_tiny_with_growing_images() -> None:
    recipe, parent = read("recipes/tiny_progressive"), read("tiny")
    assert recipe["data"].pop("progressive_size") == [128, 160, 192, 224]
    assert recipe == parent


@pytest.mark.parametrize("stem", PARENTS)
def test_header_matches_the_batch_sizes(stem: str) -> None:
    data = read(f"recipes/{stem}")["data"]
    start = r"Batch: (\d+) images per step \(data\.global_batch_size\) = "
    batch = start + r"(\d) devices? × (\d+) \(data\.batch_size\) × (\d+)"
    found = re.search(batch, header(stem))
    assert found is not None
    total, devices, size, accumulated = map(int, found.groups())
    assert (total, size) == (data["global_batch_size"], data["batch_size"])
    assert devices * size * accumulated == total
