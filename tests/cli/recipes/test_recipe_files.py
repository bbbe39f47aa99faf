"""Recipes as files: what is not one, several of them, and the keys that win over them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from inceptionnext_lit.cli.recipes import shipped
from inceptionnext_lit.cli.recipes.augmentation_levels import spell_out_levels
from inceptionnext_lit.cli.runs.latest_run import run_name
from inceptionnext_lit.data import ImageFolderDataModule, SegmentationDataModule
from inceptionnext_lit.data.sources.embedded import data_folder
from inceptionnext_lit.errors import UsageError, UserError
from tests.recipes import SMALL

Cli = Callable[..., None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {lr: 1}".encode("utf-16"), " is UTF-16, which older PowerShells write with >; save it as UTF-8."),
        ("# Größe\nmodel: {lr: 1}".encode("latin-1"), " is not UTF-8; save it as UTF-8."),
        (b"model:\n\tlr: 1\n", ", line 2: not valid YAML (found character that cannot start any token)."),
        (b"[model]\nlr = 1\n", ", line 2: not valid YAML (did not find expected <document start>)."),
        (b"# lr\n", " is empty; give keys such as model.lr, or leave it out."),
        (b"- a\n", " is not a recipe, which has keys such as data and model."),
        (b"data:\n  # root: x\n", " sets nothing; give keys such as model.lr, or leave it out."),
        (
            b"model: {lr: 1}\nconfig: base.yaml\n",
            ", line 2: a recipe cannot include another one; give both, "
            "--config BASE --config THIS, of which the last one wins.",
        ),
        (b"print_config: true\n", ", line 1: give --print_config on the command line, not in a recipe."),
    ],
)
def test_files_that_are_no_recipes(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        shipped.find_config(str(path))
    assert str(error.value) == f"--config {path}{message}"


def test_a_recipe_with_a_byte_order_mark_and_one_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfmodel: {lr: 1}\r\n")
    assert shipped.find_config(str(tmp_path / "r.yaml")) == str(tmp_path / "r.yaml")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("model: {lr: 1}\n",))
    writer.start()
    assert shipped.find_config(str(pipe)) == "model: {lr: 1}\n"
    writer.join()


def test_recipes_come_before_the_keys() -> None:
    given = ["predict", "a.jpg", "--x", "1", "--config={y: 2}", "--y=3", "--config", "{z: 4}", "--config"]
    resolved = ["predict", "a.jpg", "--config={y: 2}", "--config", "{z: 4}", "--x", "1", "--y=3", "--config"]
    assert shipped.resolve_configs(given) == resolved


def printed(cli: Cli, capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *words, "--print_config")
    assert exit_.value.code in (0, None)
    resolved: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return resolved


def test_keys_before_a_recipe_win_over_it(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["--data.root", "MINE", "--trainer.max_epochs=2", "--ckpt_path", "x.ckpt"]
    resolved = printed(cli, capsys, *keys, *SMALL, "--config", "{ckpt_path: null, model: {lr: 0.5}}", "--run_name", 1)
    assert resolved["data"]["init_args"]["root"] == "MINE"  # the recipe has the embedded images
    assert (resolved["trainer"]["max_epochs"], resolved["ckpt_path"]) == (2, "x.ckpt")
    assert (resolved["model"]["init_args"]["lr"], resolved["run_name"]) == (0.5, "1")


LIGHT = (
    '--data.augmentation={"scale": [0.5, 1], "ratio": [0.75, 1.3333333333333333], "pad_crop": 0, "hflip": 0.5, '
    '"color_jitter": 0, "rand_augment_magnitude": null, "rand_augment_std": 0.5, "rand_augment_num_ops": 2, '
    '"rand_augment_increasing": true, "erasing": 0, "interpolation": "random", "repeats": 1}'
)


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "light.yaml", "+", "--data.augmentation.hflip", "0", "--data.augmentation.erasing=1"],
        ["--config=light.yaml", "+", "--config=keys.yaml"],
        ["--data.augmentation", "light", "+", "--data.init_args.augmentation.hflip=0"],
        ["--data.augmentation=light", "+", "--data.augmentation={hflip: 0}"],
        ["--data", "{augmentation: light}", "+", "--data", "{init_args: {augmentation: {hflip: 0}}}"],
        ["--config", "{data.augmentation: light}", "+", "--config", "{data.augmentation.hflip: 0}"],
        ["--config", "keys.yaml", "--config", "light.yaml"],
        ["--data.augmentation.hflip", "0", "--data.augmentation", "light"],
        ["--config", "keys.yaml", "--data.augmentation.erasing", "0", "--data.root", "light"],
        ["--config", "light.yaml", "--config", "missing.yaml", "--data.augmentation", "{"],
    ],
)
def test_single_keys_change_the_level_before_them(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("light.yaml").write_text("data:\n  init_args:\n    augmentation: light\n")
    Path("keys.yaml").write_text("data:\n  augmentation:\n    hflip: 0\n")
    given = [word for word in words if word != "+"]
    assert spell_out_levels(given, ImageFolderDataModule) == [LIGHT if word == "+" else word for word in words]
    assert spell_out_levels(given, object) == given  # a class of the user's


def test_levels_of_a_checkpoint_and_of_segmentation() -> None:
    words = ["--data.augmentation.vflip", "0.5"]
    values = (
        '{"ratio": [0.5, 2.0], "cat_max_ratio": 0.75, "hflip": 0.5, "vflip": 0.0, "rotation": 15, "distortion": true}'
    )
    spelled = [f"--data.augmentation={values}", *words]
    assert spell_out_levels(words, SegmentationDataModule, "strong") == spelled
    for stored in ({"hflip": 0}, None, "other"):
        assert spell_out_levels(words, SegmentationDataModule, stored) == words


def test_a_level_with_a_single_key(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "finetune/folder", "--data.root", "x", "--data.augmentation.hflip", 0.25]
    augmentation = printed(cli, capsys, *words)["data"]["init_args"]["augmentation"]
    assert (augmentation["hflip"], augmentation["scale"], augmentation["erasing"]) == (0.25, [0.5, 1.0], 0)
    assert augmentation["rand_augment_magnitude"] is None


@pytest.mark.parametrize("trainer", ["null", "3", "[{max_epochs: 3}]"])
def test_a_value_for_a_group(trainer: str, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text(f"trainer: {trainer}\nmodel: {{lr: 0.1}}\n")
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, "--config", "r.yaml")
    assert exit_.value.code == 1
    given = trainer.replace("max_epochs", "'max_epochs'")
    sentence = f"trainer is {given}, but it is a group of options; give keys of it, or leave it out."
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_strings_that_look_like_numbers_are_read_back(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--run_name", "1e3", "--data.manifest.label_column", "#", "--data.root=2E5"]
    with pytest.raises(SystemExit):
        cli("fit", *SMALL, *names, "--print_config")
    text = capsys.readouterr().out
    Path("r.yaml").write_text(text)
    with pytest.raises(SystemExit):
        cli("fit", "--config", "r.yaml", "--print_config")
    assert capsys.readouterr().out == text
    resolved = yaml.safe_load(text)
    assert (resolved["run_name"], resolved["data"]["init_args"]["root"]) == ("1e3", "2E5")
    assert resolved["data"]["init_args"]["manifest"]["label_column"] == "#"


def test_names_of_runs() -> None:
    model = Namespace(class_path="own.Net", init_args=Namespace(width=1))
    assert run_name(Namespace(model=model, config=None)) == "Net"
    assert run_name(Namespace(model=model, config=[None, "a/b.yaml"])) == "b"
    model.init_args.name = "tiny"
    assert run_name(Namespace(model=model, config=[None])) == "tiny"  # a recipe's text


def test_a_dotted_key_of_a_dictionary(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text("model: {optimizer: {kwargs.eps: 1e-3}}\n")
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, "--config", "r.yaml")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        "error: model.optimizer.kwargs is a dictionary, whose keys have no dots in a recipe; give {eps: 0.001}.\n"
    )


def test_an_empty_name_of_images() -> None:
    with pytest.raises(UserError, match=r"^The name of the images is empty; give a folder or a file, or \. for the"):
        data_folder("")


def test_cross_validate_prints_no_config(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("cross_validate", *SMALL, "--print_config")
    assert exit_.value.code == 1
    assert "error: cross_validate does not take --print_config; " in capsys.readouterr().err
