"""Every recipe and every overlay parses and builds; make test-slow checks that each recipe trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inceptionnext_lit.cli.lightning_cli import CommandLine
from tests.recipes import REPO

OVERLAYS = sorted((REPO / "configs/trainer").glob("*.yaml"))
SEGMENTATION = sorted((REPO / "configs/segment").glob("*.yaml"))  # tests/segmentation/test_segmentation_recipes.py
RECIPES = sorted(set((REPO / "configs").rglob("*.yaml")) - {*OVERLAYS, *SEGMENTATION})
FAST = {"quickstart", "atto", "tiny", "lp_ft", "swin_tiny_inception_stages12"}
FOLDERS = ("configs", "recipes", "hybrids", "baselines")
PRETRAINING = [path for path in RECIPES if path.parent.name in FOLDERS and path.stem != "quickstart"]
SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_JOB_ID": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("config", [*RECIPES, *SEGMENTATION], ids=name)
def test_recipe_header_has_its_headings(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for heading in ("Source:", "Command:", "Batch:", "Expected:"):
        assert any(line.startswith(f"# {heading}") for line in header), heading


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name)
def test_overlay_header_has_its_headings(overlay: Path) -> None:
    header = [line for line in overlay.read_text().splitlines() if line.startswith("#")]
    for heading in ("Purpose:", "Command:"):
        assert any(line.startswith(f"# {heading}") for line in header), heading


@pytest.fixture
def build(
    cli: Callable[..., None], make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return a function that parses and builds a fit on a small folder, without training."""
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2}, classes=("bag", "coat"))

    def run(*words: object) -> Any:
        built = []
        monkeypatch.setattr(CommandLine, "_run_subcommand", lambda self, name: built.append((self, name)))
        cli("fit", *words, "--data.root", root, "--model.pretrained", "false")
        [(line, command)] = built
        assert command == "fit"
        return line

    return run


@pytest.mark.parametrize(
    "config", [pytest.param(x, marks=[pytest.mark.slow] * (x.stem not in FAST)) for x in RECIPES], ids=name
)
def test_recipe_parses_and_builds(config: Path, build: Callable[..., Any]) -> None:
    line = build("--config", config)
    recipe = yaml.safe_load(config.read_text())
    assert line.model.num_classes == 2
    assert line.model.hparams["name"] == recipe["model"]["name"]
    assert line.model.preprocessing["image_size"] == recipe["data"]["image_size"]
    assert line.trainer.max_epochs == recipe["trainer"]["max_epochs"]
    size = recipe["data"]["batch_size"]
    assert line.config.fit.data.init_args.batch_size == size
    assert line.datamodule.batch_size == (64 if size == "auto" else size)  # derived once the images are counted
    assert line.datamodule.global_batch_size == recipe["data"].get("global_batch_size")


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS, ids=name)
def test_overlay_parses_and_builds(overlay: Path, build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if overlay.stem == "slurm":
        for key, value in SLURM.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    one = overlay.stem in ("debug", "fp32")
    words = ["--trainer.devices", 2, "--trainer.accelerator", "cpu"] if overlay.stem in ("ddp", "slurm", "fsdp") else []
    words += ["--trainer.devices", 1, "--trainer.accelerator", "cpu"] if overlay.stem == "fp32" else []
    line = build("--config", REPO / "configs/quickstart.yaml", "--config", overlay, *words)
    settings = yaml.safe_load(overlay.read_text())["trainer"]
    given = settings.get("strategy", "auto")
    strategy = given if isinstance(given, str) else given["class_path"]
    expected = {"ddp": "DDPStrategy", "auto": "SingleDeviceStrategy"}.get(strategy, strategy)
    assert type(line.trainer.strategy).__name__ == expected
    assert line.trainer.world_size == (1 if one else 2)
    assert line.trainer.precision == settings.get("precision", "32-true")
    if overlay.stem == "slurm":
        environment = line.trainer.strategy.cluster_environment
        assert type(environment).__name__ == "SLURMEnvironment"
        assert environment.auto_requeue is False


@pytest.mark.slow
@pytest.mark.parametrize("config", PRETRAINING, ids=name)
def test_pretraining_recipe_trains_two_steps(
    config: Path, cli: Callable[..., None], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 2}, classes=("bag", "coat"))
    cli(
        "fit", "--config", config, "--data.root", root, "--data.batch_size", 2, "--data.global_batch_size", 4,
        "--trainer.max_steps", 2, "--trainer.devices", 1, "--data.num_workers", 0, "--model.pretrained", "false",
    )  # fmt: skip
    [last] = tmp_path.glob("runs/*/version_0/checkpoints/last.ckpt")
    stored = torch.load(last, weights_only=True)
    assert stored["global_step"] == 2
    assert stored["run"]["trainer.accumulate_grad_batches"] == 2
    recipe = yaml.safe_load(config.read_text())["model"]
    assert stored["hyper_parameters"]["name"] == recipe["name"]
    lrs = [group["lr"] for group in stored["optimizer_states"][0]["param_groups"]]
    assert 0 < max(lrs) <= float(recipe["lr"])
    assert any(key.startswith("model_ema.") for key in stored["state_dict"]) == (recipe["ema_decay"] is not None)
