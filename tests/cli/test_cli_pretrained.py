"""The command line uses the preprocessing of pretrained weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from jsonargparse import Namespace
from timm.models import _registry

from inceptionnext_lit.cli.parsing.stored_arguments import checkpoint_defaults
from inceptionnext_lit.models.weights import save_weights
from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from tests.recipes import REPO

MODEL = "inceptionnext_iso_micro"
RECIPES = sorted((REPO / "configs/finetune").glob("*.yaml"))
WORDS = ["--model.name", MODEL, "--data.image_size", 28, "--data.num_workers", 0, "--trainer.max_epochs", 1]
Cli = Callable[..., None]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write weights of a model whose timm config has another normalization, interpolation and crop."""
    [(key, entry)] = [(k, v) for k, v in _registry._model_pretrained_cfgs.items() if k.partition(".")[0] == MODEL][:1]
    changed = replace(
        entry, mean=(0.5,) * 3, std=(0.4,) * 3, interpolation="bilinear", crop_pct=0.95, crop_mode="squash"
    )
    monkeypatch.setitem(_registry._model_pretrained_cfgs, key, changed)
    save_weights(timm.create_model(MODEL, num_classes=10), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 8, "val": 2}, classes=("bag", "coat"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_leave_the_input_to_the_weights(recipe: Path) -> None:
    data = yaml.safe_load(recipe.read_text())["data"]
    assert data.get("input") == ({"crop_pct": 1.0} if recipe.stem == "res384" else None)


def run(cli: Cli, root: Path, *words: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a short run's saved ``data.input``, and the preprocessing in its checkpoint."""
    cli("fit", "--config", REPO / "configs/finetune/folder.yaml", *WORDS, "--data.root", root, *words)
    folder = max(Path("runs/folder").iterdir())
    saved = yaml.safe_load((folder / "config.yaml").read_text())["data"]["init_args"]["input"]
    stored = read_checkpoint(folder / "checkpoints/last.ckpt")["hyper_parameters"]["data_spec"]["preprocessing"]
    return saved, stored


@pytest.mark.slow
def test_preprocessing_of_the_weights_is_used_printed_and_stored(
    cli: Cli,
    root: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved, stored = run(cli, root, "--model.pretrained", weights)
    wanted = {"mean": [0.5] * 3, "std": [0.4] * 3, "interpolation": "bilinear", "crop_pct": 0.95, "crop_mode": "squash"}
    assert {key: saved[key] for key in wanted} == wanted
    assert stored == wanted | {"image_size": 28}
    assert (
        "Input:      28 pixels, mean [0.5, 0.5, 0.5], std [0.4, 0.4, 0.4], interpolation bilinear, crop_pct 0.95, "
        f"crop_mode squash (mean, std, interpolation, crop_pct, crop_mode from timm's entry of {MODEL})\n"
    ) in capsys.readouterr().out
    # a checkpoint's preprocessing overrides timm's config; given values override both
    checkpoint = Path("runs/folder/version_0/checkpoints/last.ckpt")
    monkeypatch.undo()  # restores timm's config
    monkeypatch.chdir(tmp_path)
    saved, stored = run(cli, root, "--model.pretrained", checkpoint, "--data.input.crop_pct", 0.8)
    assert stored == wanted | {"image_size": 28, "crop_pct": 0.8}
    assert f"(mean, std, interpolation, crop_mode from {checkpoint})" in capsys.readouterr().out
    # the other commands use the same preprocessing
    task = Namespace(class_path="inceptionnext_lit.tasks.ClassificationTask")
    defaults = checkpoint_defaults(read_checkpoint(checkpoint), str(checkpoint), task)["data"]["init_args"]["input"]
    assert {key: defaults[key] for key in wanted} == wanted


@pytest.mark.slow
def test_other_channels_and_a_given_mean(
    cli: Cli, root: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, _ = run(cli, root, "--model.pretrained", weights, "--data.in_chans", 1)
    assert (saved["mean"], saved["std"], saved["crop_mode"]) == ([0.5], [0.4], "squash")
    assert f"crop_mode from timm's entry of {MODEL}, averaged for 1 channels)" in capsys.readouterr().out
    with pytest.warns(
        UserWarning,
        match=r"mean \[0\.2, 0\.2, 0\.2\] and std \[0\.4, .* does not say what its own had",
    ):
        saved, _ = run(cli, root, "--model.pretrained", weights, "--data.input.mean", [0.2, 0.2, 0.2])
    assert (saved["mean"], saved["std"]) == ([0.2] * 3, [0.4] * 3)


def test_without_pretrained_weights_nothing_changes(cli: Cli, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, stored = run(cli, root, "--model.pretrained", "false")
    assert saved["mean"] is None
    assert stored == {
        "image_size": 28, "crop_pct": 0.875, "interpolation": "bicubic", "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert "crop_pct 0.875, crop_mode center\n" in capsys.readouterr().out
