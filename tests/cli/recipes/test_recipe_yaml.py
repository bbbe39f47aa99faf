"""YAML values that the plain loader would misread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inceptionnext_lit.cli.recipes.recipe_yaml import load_recipe
from inceptionnext_lit.errors import UserError
from tests.recipes import SMALL


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("class_names: [no, yes, 0010, 1e3, null, 2024-01-01, '7']",
         {"class_names": ["no", "yes", "0010", "1e3", "null", "2024-01-01", "7"]}),
        ("class_weights: {no: 2, 0010: 0.5, on: 1}", {"class_weights": {"no": 2, "0010": 0.5, "on": 1}}),
        ("{no: 2, 1: 3}", {"no": 2, "1": 3}),
        ("a: [0010, 0x1F, 0b11, -7, +08, 1_000]", {"a": [10, 31, 3, -7, 8, 1000]}),
        ("a: [1:30, 12:00:00, 1:30.5]", {"a": ["1:30", "12:00:00", "1:30.5"]}),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("0010", 10),
        ("1e3", 1000.0),
        ("true", True),
        ("a: [yes, off, 1e-3, 3.5, .5]", {"a": [True, False, 1e-3, 3.5, 0.5]}),
        ("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}", {"base": {"x": 1, "y": 2}, "own": {"x": 1, "y": 3}}),
        ("class_names:\nx: 1", {"class_names": None, "x": 1}),
        ("a.b", "a.b"),
        ("#1", "#1"),
        ("a: {c: 1}\na.b: 2", {"a": {"c": 1}, "a.b": 2}),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    assert load_recipe(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: {c: 1}\na.b: 2", {"a": {"c": 1, "b": 2}}),
        ("a.b.d: 2\na: {b: {c: 1}}\nx.y: 3", {"a": {"b": {"c": 1, "d": 2}}, "x.y": 3}),
        ("a.b.d: 2\na: {class_path: X, init_args: {c: 1}}",
         {"a": {"class_path": "X", "init_args": {"c": 1, "b": {"d": 2}}}}),
        ("a: {b: {c: 1}, b.d.e: 2}", {"a": {"b": {"c": 1, "d": {"e": 2}}}}),
        ("a: {b.d.e: 2, b: {c: 1}}", {"a": {"b": {"c": 1, "d": {"e": 2}}}}),
        ("a: {o.k.x: 1, o.k: {y: 2}}", {"a": {"o.k": {"y": 2, "x": 1}}}),
        ("a: {class_path: X, init_args.b: 2, init_args: {c: 1}}",
         {"a": {"class_path": "X", "init_args": {"c": 1, "b": 2}}}),
        ("class_weights: {v1: 2, v1.0: 3}", {"class_weights": {"v1": 2, "v1.0": 3}}),
        ("a: {b: light}\na.b.c: 2", {"a": {"b": "light"}, "a.b.c": 2}),
        ("a: X\na.b: 2", {"a": "X", "a.b": 2}),
    ],
)  # fmt: skip
def test_both_forms_of_a_key_in_one_recipe(text: str, value: Any) -> None:
    assert load_recipe(text, "r.yaml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model:\n  lr: 1\n  name: x\n  lr: 2\n",
            r"^r\.yaml: the key 'lr' is given twice, in lines 2 and 4; remove one\.$",
        ),
        ("data: {}\nmodel: {}\ndata: {}\n", r"^r\.yaml: the key 'data' is given twice, in lines 1 and 3; remove one"),
        ("class_weights: {no: 1, 'no': 2}", r"the key 'no' is given twice, in lines 1 and 1"),
        ("a: [{x: 1, x: 1}]", r"the key 'x' is given twice"),
        (
            "model:\n  loss:\n    mix: {mixup: 1}\nmodel.loss.mix.mixup: 2\n",
            r"'model\.loss\.mix\.mixup' is given twice, in lines 3 and 4",
        ),
        (
            "model: {o.k.x: 1, o.k: {x: 2}}",
            r"the key 'x' of a group is given twice, with a dot and without",
        ),
    ],
)
def test_a_duplicate_key(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(text, "r.yaml")


@pytest.mark.parametrize("command", ["fit", "cross_validate"])
def test_a_duplicate_key_in_a_recipe(
    command: str, cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text("trainer:\n  max_epochs: 1\n  max_epochs: 2\n")
    with pytest.raises(SystemExit) as exit_:
        cli(
            command,
            "--config",
            "r.yaml",
            "--data.root",
            "sample",
            *(["--data.split.num_folds", 2] * (command != "fit")),
        )
    assert exit_.value.code == 1
    assert (
        capsys.readouterr().err == "error: r.yaml: the key 'max_epochs' is given twice, in lines 2 and 3; remove one.\n"
    )


@pytest.mark.slow
def test_names_on_the_command_line(
    cli: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text("data:\n  class_names: [no, 0010]\n  balance: {class_weights: {no: 2, 0010: 3}}\n")
    words = ["fit", *SMALL, "--config", "r.yaml"]
    with pytest.raises(SystemExit):
        cli(*words, "--data.balance.class_weights", "{0010: 0010, yes: 2}", "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert printed["class_names"] == ["no", "0010"]
    assert printed["balance"]["class_weights"] == {"0010": 10.0, "yes": 2.0}
    for names in (["--data.class_names", "[no, 1]"], ["--data.init_args.class_names=[no, '1']"]):
        with pytest.raises(SystemExit):
            cli(*words, *names, "--print_config")
        assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["class_names"] == ["no", "1"]
    for names in ("[no, {yes: 1}]", "no", "[no"):
        with pytest.raises(SystemExit) as exit_:
            cli(*words, "--data.class_names", names)
        assert exit_.value.code == 2
        assert capsys.readouterr().err.startswith("error: data.class_names: ")
