"""Renamed options: errors for old keys name the new ones, and old checkpoints still load."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inceptionnext_lit.cli.parsing.parser import DEFAULT_CLASSES, known_keys
from inceptionnext_lit.data import BadImageOptions, BalanceOptions, ColumnNames, InputOptions, SplitRules
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.renamed import RENAMED, explain_renamed, new_key, update_checkpoint
from inceptionnext_lit.safe_load import load_plain
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from tests.recipes import SMALL

Cli = Callable[..., None]
BEFORE = Path(__file__).with_name("before") / "base_task.ckpt"


@pytest.fixture
def said(cli: Cli, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return the error of ``fit``, which must exit with code 2."""

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as exit_:
            cli("fit", *words)
        assert exit_.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_key_names_the_new_one(said: Callable[..., str], old: str) -> None:
    assert said(f"--{old}", "x") == f"error: {old} is now {RENAMED[old]}.\n"


TYPICAL = ("data.mean", "model.label_smoothing")


@pytest.mark.parametrize("old", [pytest.param(old, marks=[pytest.mark.slow] * (old not in TYPICAL)) for old in RENAMED])
def test_an_old_key_in_any_form_names_the_new_one(said: Callable[..., str], tmp_path: Path, old: str) -> None:
    sentence = f"error: {old} is now {RENAMED[old]}.\n"
    part, _, name = old.partition(".")
    assert said(f"--{old}=x") == sentence
    assert said(f"--{part}.init_args.{name}", "x") == sentence
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({part: {name: "x"}}))
    assert said("--config", path) == sentence
    path.write_text(yaml.safe_dump({old: "x"}))
    assert said("--config", path) == sentence
    path.write_text(yaml.safe_dump({part: {"class_path": DEFAULT_CLASSES[part].__name__, "init_args": {name: "x"}}}))
    assert said("--config", path) == sentence


def test_keys_within_a_group(said: Callable[..., str], tmp_path: Path) -> None:
    assert said("--model.mix.mixup", 0.1) == "error: model.mix.mixup is now model.loss.mix.mixup.\n"
    assert said("--model.mix", '{"cutmix": 1}') == "error: model.mix.cutmix is now model.loss.mix.cutmix.\n"
    (tmp_path / "recipe.yaml").write_text("model:\n  mix:\n    prob: 0.5\n")
    assert said("--config", "recipe.yaml") == "error: model.mix.prob is now model.loss.mix.prob.\n"
    assert said("--data.split", 0.1) == (
        "error: data.split is '0.1', but it is a group of options: data.split.fold or data.split.num_folds or "
        "data.split.per_class.\n"
    )


def test_a_file_of_weights_in_the_place_of_a_group(said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "teacher.pth").write_bytes(b"PK\x03\x04\x80\x02")
    assert said("--model.distill", tmp_path / "teacher.pth") == (
        "error: model.distill is a file that is not text, but it is a group of options: model.distill.kind or "
        "model.distill.name or model.distill.teacher.\n"
    )


def test_current_keys_are_not_renamed(cli: Cli) -> None:
    from jsonargparse import ArgumentParser

    keys = known_keys(ArgumentParser())
    assert {new for new in RENAMED.values() if "." in new} <= set(keys)
    assert [key for key in keys if new_key(key) != key] == ["model.loss"]  # the group has the old name of the loss
    assert explain_renamed("model.loss.name") is None


GROUPS: dict[str, type] = {
    "data.split": SplitRules, "data.input": InputOptions, "data.balance": BalanceOptions,
    "data.bad_images": BadImageOptions, "data.manifest": ColumnNames, "model.loss": LossOptions,
    "model.loss.mix": Mix,
}  # fmt: skip
RECIPE = """
data:
  root: sample
  split: {val_fraction: 0.3, seed: 5}
  input: {crop_pct: 0.9, mean: [0.1, 0.2, 0.3]}
model:
  pretrained: false
  loss:
    label_smoothing: 0.2
    mix: {mixup: 0.8, cutmix: 1.0}
"""
OVERLAYS = {
    "nested": "data:\n  split: {num_folds: 4}\n  input: {crop_pct: 1.0}\nmodel:\n  loss:\n    mix: {mixup: 0.5}\n",
    "dotted": "data.split.num_folds: 4\ndata.input.crop_pct: 1.0\nmodel.loss.mix.mixup: 0.5\n",
    "dotted, then nested": "data.split.num_folds: 4\nmodel.loss.mix.mixup: 0.5\ndata:\n  input: {crop_pct: 1.0}\n",
    "dotted within": "data:\n  split.num_folds: 4\n  input.crop_pct: 1.0\nmodel:\n  loss.mix.mixup: 0.5\n",
}
WORDS = {
    "a key": ["--data.split.num_folds", "4", "--data.input.crop_pct", "1.0", "--model.loss.mix.mixup", "0.5"],
    "a group": [
        "--data.split", '{"num_folds": 4}', "--data.input", '{"crop_pct": 1.0}',
        "--model.loss", '{"mix": {"mixup": 0.5}}',
    ],
    "a group within": [
        "--data.split", "{num_folds: 4}", "--data.input", "{crop_pct: 1.0}", "--model.loss.mix", "{mixup: 0.5}"
    ],
}  # fmt: skip


@pytest.fixture
def resolved(cli: Cli, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the data and task options that ``--print_config`` prints for the recipe and more arguments."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    def run(*words: object) -> dict[str, Any]:
        with pytest.raises(SystemExit) as exit_:
            cli("fit", *words, "--print_config")
        assert exit_.value.code == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        return {part: printed[part]["init_args"] for part in ("data", "model")}

    return run


def check_merged(found: dict[str, Any]) -> None:
    """Check that the recipe's other keys stay when some are overridden."""
    split, input_, loss = found["data"]["split"], found["data"]["input"], found["model"]["loss"]
    assert split == {"val_fraction": 0.3, "seed": 5, "num_folds": 4, "fold": 0, "per_class": None}
    assert (input_["crop_pct"], input_["mean"], input_["exif"]) == (1.0, [0.1, 0.2, 0.3], "apply")
    assert (loss["name"], loss["label_smoothing"]) == ("cross_entropy", 0.2)
    assert (loss["mix"]["mixup"], loss["mix"]["cutmix"], loss["mix"]["prob"]) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize("form", OVERLAYS)
def test_a_second_recipe_overrides_key_by_key(
    resolved: Callable[..., dict[str, Any]], tmp_path: Path, form: str
) -> None:
    (tmp_path / "overlay.yaml").write_text(OVERLAYS[form])
    check_merged(resolved("--config", "recipe.yaml", "--config", "overlay.yaml"))
    found = resolved("--config", "overlay.yaml", "--config", "recipe.yaml")
    assert (found["data"]["split"]["num_folds"], found["data"]["split"]["seed"]) == (4, 5)
    assert (found["data"]["input"]["crop_pct"], found["model"]["loss"]["mix"]["mixup"]) == (0.9, 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("form", WORDS)
def test_the_command_line_overrides_key_by_key(resolved: Callable[..., dict[str, Any]], form: str) -> None:
    check_merged(resolved("--config", "recipe.yaml", *WORDS[form]))


@pytest.mark.slow
def test_print_config_shows_every_key_of_a_group(resolved: Callable[..., dict[str, Any]]) -> None:
    printed = resolved("--config", "recipe.yaml")
    for key, option in GROUPS.items():
        group: Any = printed
        for name in key.split("."):
            group = group[name]
        assert group.keys() == {field.name for field in fields(option)}, key
    assert "data_spec" not in printed["model"]  # comes from the data


def test_an_old_checkpoint_gets_the_current_names() -> None:
    content = load_plain(BEFORE)
    arguments, run = content["hyper_parameters"], content["run"]
    assert arguments["loss"] == {
        "name": "cross_entropy", "label_smoothing": 0.1,
        "mix": {"mixup": 0.0, "cutmix": 0.0, "prob": 1.0, "switch_prob": 0.5, "order": "after_erasing"},
    }  # fmt: skip
    assert arguments["execution"] == {
        "channels_last": True, "compile": False, "grad_checkpointing": False, "dist_bn": "reduce",
        "test_time_flip": False,
    }  # fmt: skip
    spec = arguments["data_spec"]
    assert (spec["class_names"], spec["num_classes"], spec["multi_label"]) == (["a", "b", "c"], 3, False)
    assert spec["preprocessing"]["image_size"] == 28
    assert not {"num_classes", "class_names", "preprocessing", "multi_label", "mix", "dist_bn"} & arguments.keys()
    assert (run["data.split.seed"], run["data.input.crop_pct"], run["data.image_size"]) == (0, 1.0, 28)
    assert (run["data.balance.sampler"], run["data.manifest.path_column"]) == ("shuffled", None)
    assert (run["model.loss.name"], run["model.loss.mix.prob"]) == ("cross_entropy", 1.0)
    assert not [key for key in run if new_key(key) != key or key.startswith("model.data_spec")]
    again = {key: dict(content[key]) for key in ("hyper_parameters", "run")}
    update_checkpoint(content)
    assert {key: content[key] for key in again} == again


def test_a_plain_modules_checkpoint_keeps_its_names(tmp_path: Path) -> None:
    content = {
        "state_dict": {},
        "hyper_parameters": {"loss": "dice", "num_classes": 3, "mix": None, "preprocessing": "none"},
        "run": {"data.mean": 1.0, "model.loss": "dice", "data.fold": 2},
    }
    torch.save(content, tmp_path / "other.ckpt")
    assert load_plain(tmp_path / "other.ckpt") == content


@pytest.mark.slow
def test_a_continued_run_compares_current_names(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {"train": 6, "val": 2}, classes=("bag", "coat", "sandal"))
    for split in ("train", "val"):
        for name, old in (("bag", "a"), ("coat", "b"), ("sandal", "c")):
            (root / split / name).rename(root / split / old)
    cli(
        "fit", "--ckpt_path", BEFORE, "--data.root", root, "--data.batch_size", 6, "--data.num_workers", 0,
        "--trainer.max_epochs", 2, "--trainer.limit_train_batches", 1, "--trainer.accelerator", "cpu",
        "--data.split.seed", 3, "--model.loss.label_smoothing", 0.2, "--model.loss.mix.mixup", 0.5, "--run_name", "x",
        "--data.augmentation", "{scale: null, color_jitter: 0, rand_augment_magnitude: null, erasing: 0}",
        "--data.augmentation.interpolation", "bicubic",
    )  # fmt: skip
    changed = capsys.readouterr().out.partition("Changed:")[2].partition("(from the checkpoint's")[0].split("; ")
    assert [" ".join(change.split()) for change in changed if "root" not in change and "trainer" not in change] == [
        "data.batch_size 8 → 6",
        "data.split.seed 0 → 3",
        "model.loss.label_smoothing 0.1 → 0.2",
        "model.loss.mix.mixup 0.0 → 0.5",
    ]


@pytest.mark.slow
def test_a_given_data_spec_must_match_the_data(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    words = [*SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 1]
    for key, value, right in (
        ("num_classes", 4, 3),
        ("class_names", ["x", "y"], ["bag", "coat", "sandal"]),
        ("multi_label", True, False),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli("fit", *words, f"--model.data_spec.{key}", value)
        assert exit_.value.code == 1
        assert capsys.readouterr().err == (
            f"error: model.data_spec.{key} is {value}, but the data have {right}; leave it out, since the model takes "
            "it from the data.\n"
        )
        assert not list(tmp_path.glob("runs/*/*/*"))
    cli("fit", *words, "--model.data_spec.num_classes", 3)
    assert "Checkpoint: runs/quickstart" in capsys.readouterr().out


def test_a_data_spec() -> None:
    assert DataSpec().names[-1] == "999"
    assert DataSpec(num_classes=2).names == ["0", "1"]
    assert DataSpec(["a", "b"]).names == ["a", "b"]
