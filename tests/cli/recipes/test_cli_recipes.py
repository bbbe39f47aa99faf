"""Recipes by name, and the program's name in its output."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inceptionnext_lit import program
from inceptionnext_lit.cli import main
from inceptionnext_lit.cli.recipes import shipped
from inceptionnext_lit.errors import UsageError
from tests.recipes import REPO

ALL = sorted((REPO / "configs").rglob("*.yaml"))


def test_recipes_lists_each_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.split("\n\n")[0].splitlines())
    for path in ALL:
        line = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").removeprefix("Purpose: ")
        assert listed.pop(path.relative_to(REPO / "configs").with_suffix("").as_posix()) == line
        assert line.endswith((".", ")."))
    assert listed == {}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("quickstart", "quickstart.yaml"),
        ("quickstart.yaml", "quickstart.yaml"),
        ("finetune/folder", "finetune/folder.yaml"),
        ("finetune/folder.yaml", "finetune/folder.yaml"),
        ("trainer/ddp", "trainer/ddp.yaml"),
        ("configs/iso_s.yaml", "iso_s.yaml"),  # as in README, from any folder
    ],
)
def test_recipes_are_found_by_name_from_any_folder(
    value: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = str(REPO / "configs" / path)
    assert shipped.resolve_configs(["fit", "--config", value]) == ["fit", "--config", found]
    words = ["fit", f"--config={value}", "--x", value]
    assert shipped.resolve_configs(words) == ["fit", f"--config={found}", "--x", value]


def test_a_file_in_the_current_folder_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("finetune").mkdir()
    Path("finetune/folder.yaml").write_text("model: {}")
    assert shipped.find_config("finetune/folder") == "finetune/folder.yaml"
    Path("finetune/folder").write_text("model: {}")
    assert shipped.find_config("finetune/folder") == "finetune/folder"
    assert shipped.find_config("{trainer: {max_epochs: 3}}") == "{trainer: {max_epochs: 3}}"
    (tmp_path / "tiny").mkdir()  # a folder is not a recipe
    assert shipped.find_config("tiny") == str(REPO / "configs/tiny.yaml")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("quikstart", "did you mean quickstart or segment/quickstart?"),
        ("folder", "did you mean finetune/folder or segment/folder?"),
        ("finetune/foldr.yaml", "did you mean finetune/folder?"),
        ("mine/recipe.yaml", "did you mean mine/recipe.yml?"),
        ("xyzzy", "python cli.py recipes lists the recipes."),
    ],
)
def test_a_wrong_name_lists_the_nearest(value: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.yml").touch()
    with pytest.raises(UsageError) as error:
        shipped.find_config(value)
    assert str(error.value) == f"No file {value}, and no recipe of that name; {hint}"


def test_a_folder_is_not_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^--config is trainer, a folder; give a file in it, such as trainer/cpu_ddp"):
        shipped.find_config("trainer")
    with pytest.raises(UsageError, match=r"^--config is \., a folder; give a YAML file\.$"):
        shipped.find_config(".")


def test_a_wrong_name_ends_the_command_with_code_2(
    cli: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("fit", "validate", "test", "predict", "cross_validate"):
        with pytest.raises(SystemExit) as exit_:
            cli(command, "--config", "nope.yaml")
        assert exit_.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: No file nope.yaml, and no recipe of that name; ")
        assert error.count("\n") == 1


def test_a_recipe_by_name_names_the_run(cli: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("fit", "--config", "finetune/linear_probe", "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["finetuning"]["freeze"] == "backbone"


@pytest.mark.parametrize(
    ("called", "usage", "restart"),
    [
        ("cli.py", "python cli.py", [sys.executable, "cli.py"]),
        ("/opt/bin/inceptionnext-lit", "inceptionnext-lit", [sys.executable, "/opt/bin/inceptionnext-lit"]),
        (
            str(REPO / "inceptionnext_lit/__main__.py"),
            "python -m inceptionnext_lit",
            [sys.executable, "-m", "inceptionnext_lit"],
        ),
    ],
)
def test_usage_lines_name_the_program_that_was_called(
    called: str, usage: str, restart: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    main(["--help"])
    page = capsys.readouterr().out
    assert f"usage: {usage} COMMAND " in page
    assert f"\n  {usage} fit --config quickstart\n" in page
    examples = page.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) > 5
    assert all(line.startswith(f"  {usage} ") for line in examples)
    assert page.count(usage) == 1 + len(examples) + 1  # with the usage line and the last sentence
    for command in ("doctor", "budget", "convert", "benchmark", "recipes", "cross_validate"):
        with contextlib.suppress(SystemExit):
            main([command, "--help"])
        page = capsys.readouterr().out
        assert page.startswith(f"usage: {usage} {command} ")
        assert usage == "python cli.py" or "cli.py" not in page
    assert program.restart_command() == restart


def test_the_exact_name_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "my tools" / "cli.py")])
    monkeypatch.setenv("PATH", "")
    assert program.exact_name() == f"{sys.executable} 'my tools/cli.py'"
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert program.exact_name() == "python 'my tools/cli.py'"


def test_folds_are_not_started_by_the_calling_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that calls main would start itself recursively."""
    monkeypatch.setattr(sys, "argv", ["mycv.py"])
    assert program.restart_command() == [sys.executable, "-m", "inceptionnext_lit"]
