"""Each fine-tuning recipe end to end: from a checkpoint trained on clothing to handwritten digits."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from inceptionnext_lit.cli.relay import Relay
from inceptionnext_lit.reports.evaluation.reading import read_predictions
from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from tests.forked import run_script
from tests.recipes import REPO

pytestmark = [
    pytest.mark.filterwarnings("ignore:model.schedule.min_lr is"),  # a learning rate at which weights do not change
    pytest.mark.filterwarnings("ignore:Turned off, since they support only RGB"),  # images with other channels
]

RECIPES = sorted((REPO / "configs/finetune").glob("*.yaml"))
TINY_IMAGES = ["--data.image_size", "28", "--data.input.crop_pct", "1.0", "--data.num_workers", "0"]
NO_MIRROR = ["--data.augmentation.hflip", "0", "--data.augmentation.scale", "[0.7, 1.0]"]


def write_digits(root: Path, per_class: int) -> Path:
    digits = load_digits()
    for name in map(str, range(10)):
        (root / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == int(name)][:per_class]):
            Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "few", 20)


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "all", 1000)


def words(recipe: Path, root: Path, trained: Path) -> list[object]:
    start = ["--model.name", "inceptionnext_iso_micro", "--model.pretrained", trained / "checkpoints/best.ckpt"]
    return ["--config", recipe, "--data.root", root, *TINY_IMAGES, *start]


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize(
    "recipe", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem != "lp_ft")) for path in RECIPES]
)
def test_a_short_run_resolves_its_defaults_and_can_be_repeated_exactly(
    recipe: Path, cli: Callable[..., None], digits: Path, trained: Path, tmp_path: Path
) -> None:
    cli("fit", *words(recipe, digits, trained), "--trainer.max_epochs", "2", "--run_name", "a")
    run = tmp_path / "runs/a/version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["init_args"]["batch_size"] == 8  # for 160 training images
    assert saved["model"]["init_args"]["lr"] == {"linear_probe": 1e-2, "res384": 1e-4}.get(recipe.stem, 2.5e-3)
    average = yaml.safe_load(recipe.read_text())["model"].get("ema_decay")
    assert saved["checkpoint"]["monitor"] == ("val_ema/acc1" if average else "val/acc1")
    cli("fit", "--config", run / "config.yaml")
    again = tmp_path / "runs/a/version_1"
    assert column(again, "train/loss") == column(run, "train/loss")
    first, second = (read_checkpoint(path / "checkpoints/last.ckpt")["state_dict"] for path in (run, again))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def channels_folder(root: Path, channels: int) -> Path:
    for label, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            values = np.full((30, 28, channels), 100 * label + number, np.uint8)
            if channels == 5:
                tifffile.imwrite(root / name / f"{number}.tif", values, photometric="minisblack", planarconfig="contig")
            else:
                Image.fromarray(values.squeeze(), {1: "L", 4: "RGBA"}[channels]).save(root / name / f"{number}.png")
    return root


OTHER_CHANNELS = [
    pytest.param(RECIPES[n % len(RECIPES)], (1, 4, 5)[n % 3], marks=[pytest.mark.slow] * (n not in (1, 2)))
    for n in range(7)
]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "channels"), OTHER_CHANNELS, ids=lambda value: getattr(value, "stem", value))
def test_every_recipe_takes_other_channels(
    recipe: Path, channels: int, cli: Callable[..., None], trained: Path, tmp_path: Path
) -> None:
    root = channels_folder(tmp_path / "data", channels)
    options = ["--data.in_chans", channels, "--trainer.max_epochs", 1, "--run_name", "a"]
    cli("fit", *words(recipe, root, trained), *options)
    stored = read_checkpoint(tmp_path / "runs/a/version_0/checkpoints/last.ckpt")
    preprocessing = stored["hyper_parameters"]["data_spec"]["preprocessing"]
    assert (len(preprocessing["mean"]), len(preprocessing["std"])) == (channels, channels)
    assert len(set(preprocessing["mean"])) == 1
    assert stored["state_dict"]["model.stem.weight"].shape[1] == channels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "options", "least"),
    [
        ("folder", [], 0.85),
        (
            "linear_probe",
            ["--model.lr", "0.1", *NO_MIRROR],
            0.6,
        ),  # the recipe's learning rate is for 768 features, not 48
        ("lp_ft", [], 0.85),
        ("small_data", [*NO_MIRROR, "--model.execution.test_time_flip", "false"], 0.85),
        ("res384", ["--model.lr", "1e-3", "--data.image_size", "42"], 0.6),
    ],
)
def test_a_whole_run_learns(
    recipe: str, options: list[str], least: float, cli: Callable[..., None], all_digits: Path, trained: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    cli("fit", *words(REPO / f"configs/finetune/{recipe}.yaml", all_digits, trained), *options)
    run = tmp_path / f"runs/{recipe}/version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert max(column(run, saved["checkpoint"]["monitor"])) > least


@pytest.mark.slow
def test_a_run_that_was_stopped_early_is_not_continued(
    cli: Callable[..., None], digits: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = REPO / "configs/finetune/folder.yaml"
    given = [*words(recipe, digits, trained), "--model.lr", "1e-9", "--model.schedule.warmup_epochs", "0"]
    given += ["--checkpoint.patience", "2", "--checkpoint.monitor", "val/acc1", "--model.drop_path", "0"]
    cli("fit", *given, "--trainer.max_epochs", "9")
    assert len(column(tmp_path / "runs/folder/version_0", "val/acc1")) < 6
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *given, "--trainer.max_epochs", "9", "--ckpt_path", "last")
    assert exit_.value.code == 0
    assert "was stopped early, after 2 validations without an improvement" in capsys.readouterr().out


@pytest.mark.slow
def test_the_learning_rate_is_found_and_saved(
    cli: Callable[..., None], all_digits: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*words(REPO / "configs/finetune/folder.yaml", all_digits, trained), "--data.batch_size", 4]
    cli("fit", *given, "--find_lr", "true", "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 4)
    output, error = capsys.readouterr()
    assert "(by a range test)" in output
    assert error == ""  # no progress bar and no log of the range test if the output is not a terminal
    run = tmp_path / "runs/folder/version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["find_lr"] is False
    assert 1e-5 < saved["model"]["init_args"]["lr"] < 1
    assert read_checkpoint(run / "checkpoints/last.ckpt")["hyper_parameters"]["lr"] == saved["model"]["init_args"]["lr"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


@pytest.mark.slow
def test_too_few_images_to_find_a_learning_rate(
    cli: Callable[..., None], digits: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*words(REPO / "configs/finetune/folder.yaml", digits, trained), "--trainer.max_epochs", 1]
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *given, "--find_lr")
    assert exit_.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --find_lr needs images for 200 steps, 1,600 at 8 a step, to compare learning rates; there are 160. "
        "Leave it out and keep the recipe's model.lr, or give a smaller --data.batch_size."
    )
    assert list(tmp_path.glob("runs/*/*")) == []
    cli("fit", *given, "--find_lr", "false", "--trainer.limit_train_batches", 1)


def test_cross_validation(
    cli: Callable[..., None], digits: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The folds are forked; tests/cli/test_cross_validate.py starts one as a user does."""

    def run_fold(_: Relay, command: Sequence[str], environment: Mapping[str, str]) -> int:
        return run_script(REPO / command[1], command[2:], tmp_path, **environment).returncode

    monkeypatch.setattr(Relay, "run", run_fold)
    given = [*words(REPO / "configs/finetune/linear_probe.yaml", digits, trained), "--trainer.max_epochs", "1"]
    cli("cross_validate", *given, "--data.split.num_folds", 2)
    report: dict[str, Any] = json.loads((tmp_path / "runs/linear_probe_cross_validation.json").read_text())
    accuracies = [column(tmp_path / f"runs/linear_probe_fold{k}/version_0", "val/acc1")[-1] for k in (0, 1)]
    assert report["monitor"] == "val/acc1"
    assert [fold["figures"]["val/acc1"] for fold in report["folds"]] == accuracies
    assert report["mean"]["val/acc1"] == pytest.approx(sum(accuracies) / 2)
    assert report["std"]["val/acc1"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    printed = capsys.readouterr().out
    assert f"{report['mean']['val/acc1']:.4f} ± {report['std']['val/acc1']:.4f}" in printed

    kept = tmp_path / "runs/linear_probe_cross_validation/oof.parquet"
    assert f"evaluate --predictions {kept.relative_to(tmp_path)}" in printed
    table = read_predictions(kept)
    assert len(set(table.paths)) == len(table)
    assert table.folds is not None
    for fold, accuracy in enumerate(accuracies):
        held_back = table.folds == fold
        assert (table.predicted == table.labels)[held_back].mean() == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--data.split.fold", "1"],
            1,
            "cross_validate runs all folds; leave out --data.split.fold, or train one fold with fit.",
        ),
        (["--data.split.num_folds", "1"], 1, "data.split.num_folds is 1; a cross-validation needs 2 or more."),
        (
            ["--data.num_fold", "2"],
            2,
            "Unknown key 'data.num_fold'; did you mean data.split.num_folds?",
        ),
    ],
)
def test_cross_validation_with_wrong_options(
    cli: Callable[..., None], words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("cross_validate", "--config", REPO / "configs/finetune/folder.yaml", "--data.root", "sample", *words)
    assert (exit_.value.code, capsys.readouterr().err) == (code, f"error: {message}\n")
