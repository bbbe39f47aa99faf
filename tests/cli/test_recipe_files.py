"""Recipes as files: what is not one, several of them, and the keys that win over them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from inceptionnext_lit.cli import recipes
from inceptionnext_lit.cli.latest_run import run_name
from inceptionnext_lit.errors import UsageError
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
    ],
)
def test_files_that_are_no_recipes(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        recipes.find_config(str(path))
    assert str(error.value) == f"--config {path}{message}"


def test_a_recipe_with_a_byte_order_mark_and_one_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfmodel: {lr: 1}\r\n")
    assert recipes.find_config(str(tmp_path / "r.yaml")) == str(tmp_path / "r.yaml")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("model: {lr: 1}\n",))
    writer.start()
    assert recipes.find_config(str(pipe)) == "model: {lr: 1}\n"
    writer.join()


def test_recipes_come_before_the_keys() -> None:
    given = ["predict", "a.jpg", "--x", "1", "--config={y: 2}", "--y=3", "--config", "{z: 4}", "--config"]
    resolved = ["predict", "a.jpg", "--config={y: 2}", "--config", "{z: 4}", "--x", "1", "--y=3", "--config"]
    assert recipes.resolve_configs(given) == resolved


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


def test_names_of_runs() -> None:
    model = Namespace(class_path="own.Net", init_args=Namespace(width=1))
    assert run_name(Namespace(model=model, config=None)) == "Net"
    assert run_name(Namespace(model=model, config=[None, "a/b.yaml"])) == "b"
    model.init_args.name = "tiny"
    assert run_name(Namespace(model=model, config=[None])) == "tiny"  # a recipe's text
