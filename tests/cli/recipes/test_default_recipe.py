"""The recipe that fit uses if none is given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inceptionnext_lit.cli.recipes.default_recipe import add_default_recipe
from tests.recipes import REPO

Cli = Callable[..., None]
FOLDER = ["--config", str(REPO / "configs/finetune/folder.yaml")]
MICRO = ["--model.name", "inceptionnext_iso_micro"]


@pytest.mark.parametrize("root", [["--data.root", "X"], ["--data.root=X"], ["--data.init_args.root", "X"]])
@pytest.mark.parametrize("more", [[], ["--ckpt_path", "last"], ["--model.name", "inceptionnext_tiny"]])
def test_images_without_a_recipe_are_fine_tuned_on(root: list[str], more: list[str]) -> None:
    words = [*root, *more]
    assert add_default_recipe(["fit", *words]) == (
        ["fit", *FOLDER, *words],
        "finetune/folder, because no --config was given",
    )


def test_a_model_without_weights_starts_from_random_ones() -> None:
    words, sentence = add_default_recipe(["fit", "--data.root", "X", *MICRO])
    assert words == ["fit", *FOLDER, "--model.pretrained", "false", "--data.root", "X", *MICRO]
    assert sentence == (
        "finetune/folder, because no --config was given, from random weights, because none are published for "
        "inceptionnext_iso_micro"
    )
    words, _ = add_default_recipe(["fit", "--data.root", "X", *MICRO, "--model.pretrained=w.pth"])
    assert words == ["fit", *FOLDER, "--data.root", "X", *MICRO, "--model.pretrained=w.pth"]


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--config", "tiny", "--data.root", "X"],
        ["fit", "--config=tiny", "--data.root", "X"],
        ["fit", "--data.root", "X", "--ckpt_path", "best.ckpt"],
        ["fit", "--help"],
        ["fit"],
        ["validate", "--data.root", "X"],
    ],
)
def test_other_command_lines_are_unchanged(words: list[str]) -> None:
    assert add_default_recipe(words) == (words, None)


def test_nine_images_are_enough(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {".": 3})
    small = ["--data.image_size", 28, "--data.num_workers", 0, "--trainer.max_epochs", 1, "--trainer.devices", 1]
    cli("fit", "--data.root", root, *MICRO, *small)
    assert capsys.readouterr().out.startswith("Recipe:     finetune/folder, because no --config was given")
    [run] = tmp_path.glob("runs/folder/version_*")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["init_args"]["batch_size"] == 6
    assert saved["model"]["init_args"]["optimizer"]["layer_decay"] == pytest.approx(0.75)


def test_neither_images_nor_a_recipe(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("fit", "--trainer.max_epochs", 3)
    assert exit_.value.code == 1
    assert capsys.readouterr().err == (
        "error: fit needs images: --data.root MY_IMAGES fine-tunes on your own folder, and --config quickstart "
        "trains on the embedded ones.\n"
    )
