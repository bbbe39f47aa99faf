"""Every recipe parses and builds; that they train is checked through the README's commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inceptionnext_lit.cli.run import CommandLine
from tests.recipes import REPO

CONFIGS = sorted((REPO / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_recipe_says_where_it_comes_from(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for heading in ("Source:", "Command:", "Batch:", "Expected:"):
        assert any(line.startswith(f"# {heading}") for line in header), heading


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_recipe_parses_and_builds(
    config: Path,
    cli: Callable[..., None],
    make_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    monkeypatch.setattr(CommandLine, "_run_subcommand", lambda self, name: built.append((self, name)))
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat"))
    cli("fit", "--config", config, "--data.root", root, "--model.pretrained", "false")
    [(line, name)] = built
    recipe = yaml.safe_load(config.read_text())
    assert name == "fit"
    assert line.model.num_classes == 2
    assert line.model.hparams["name"] == recipe["model"]["name"]
    assert line.model.preprocessing["image_size"] == recipe["data"]["image_size"]
    assert line.trainer.max_epochs == recipe["trainer"]["max_epochs"]
    assert line.datamodule.batch_size == recipe["data"]["batch_size"]


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
