"""Options that are null, in a recipe or on the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.recipes import SMALL

Cli = Callable[..., None]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "data:\n  split:\n    # val_fraction: 0.1\n",
            "data.split is null, but it needs a value; set one of its keys (val_fraction, seed, num_folds, …), or "
            "leave it out.",
        ),
        (
            "model: {loss: {mix: null}}",
            "model.loss.mix is null, but it needs a value; set one of its keys (mixup, cutmix, prob, …), or leave it "
            "out.",
        ),
        ("model:\n  lr:\n", "model.lr is null, but it needs a value; leave it out for the default, 0.001."),
        (
            "model: {optimizer: {layer_decay: null}}",
            "model.optimizer.layer_decay is null, but it needs a value; leave it out for the default, 1.0.",
        ),
    ],
)
def test_null_for_what_needs_a_value(
    cli: Cli, tmp_path: Path, recipe: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(recipe)
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, "--config", "r.yaml", "--data.root", "sample")
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_null_on_the_command_line(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also inside nested options, whose values jsonargparse reads twice."""
    (tmp_path / "r.yaml").write_text(
        "data:\n  split: {num_folds: 3}\n  input: {mean: [0.4], std: [0.2]}\n  class_names: [None, b]\n"
        "  manifest: {label_column: None}\nmodel:\n  ema_decay: 0.9\n"
    )
    words = ["fit", *SMALL, "--config", "r.yaml", "--print_config"]
    with pytest.raises(SystemExit):
        cli(*words)
    given = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert (given["class_names"], given["split"]["num_folds"]) == (["None", "b"], 3)
    assert given["manifest"]["label_column"] == "None"  # a name, as in any recipe
    nulls = ["--data.split.num_folds", "null", "--data.input.mean", "null", "--model.ema_decay=null"]
    nulls += ["--model.optimizer.kwargs", "{fused: null, foreach: true, betas: [0.9, 0.99]}"]
    nulls += ["--data.manifest.label_column", "None", "--data.class_names", "[None, null]"]
    with pytest.raises(SystemExit):
        cli(*words, *nulls)
    found = yaml.safe_load(capsys.readouterr().out)
    data, model = found["data"]["init_args"], found["model"]["init_args"]
    assert data["split"]["num_folds"] is None
    assert (data["input"]["mean"], data["input"]["std"]) == (None, [0.2])
    assert model["optimizer"]["kwargs"] == {"fused": None, "foreach": True, "betas": [0.9, 0.99]}
    assert model["ema_decay"] is None
    assert data["manifest"]["label_column"] is None
    assert data["class_names"] == ["None", "null"]
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, "--data.root", "sample", "--model.loss.mix", "null")
    assert exit_.value.code == 2
    assert "error: model.loss.mix is null, but it is a group of options: " in capsys.readouterr().err
