"""Classes in an untrusted checkpoint are not imported unless the command line names them too."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli.parsing.stored_arguments import checkpoint_defaults
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.safetensors import convert_checkpoint
from tests.recipes import SMALL

Cli = Callable[..., None]
FOREIGN = {"class_path": "stranger.Task", "init_args": {}}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that a module ``stranger`` writes when imported; the module has a custom task."""
    marker = tmp_path / "ran"
    code = "from inceptionnext_lit.tasks import ClassificationTask\n\n\nclass Task(ClassificationTask):\n    pass\n"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/stranger.py").write_text(f"open({str(marker)!r}, 'w').close()\n{code}")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    sys.modules.pop("stranger", None)
    return marker


@pytest.fixture(scope="module")
def stored(trained: Path) -> dict[str, Any]:
    return torch.load(trained / "checkpoints/best.ckpt", weights_only=True)


def changed(stored: dict[str, Any], path: Path, **changes: Any) -> Path:
    torch.save(stored | {"hyper_parameters": stored["hyper_parameters"] | changes}, path)
    return path


def commands(path: Path) -> list[list[object]]:
    return [
        *([command, "--ckpt_path", path, "--data.root", "sample"] for command in ("validate", "test")),
        ["predict", "sample", "--ckpt_path", path],
        ["fit", *SMALL, "--trainer.max_epochs", 9, "--ckpt_path", path],
    ]


def test_a_class_that_is_not_named(
    cli: Cli, stored: dict[str, Any], ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(stored, tmp_path / "evil.ckpt", _class_path="stranger.Task")
    for words in commands(path):
        with pytest.raises(SystemExit) as exit_:
            cli(*words)
        assert exit_.value.code == 1
        assert capsys.readouterr().err.endswith(
            f"error: The checkpoint {path} is of the class stranger.Task, which is not one of this package's, so it "
            "was not imported. If you trust it, name the class yourself: --model stranger.Task.\n"
        )
    with pytest.raises(
        UserError, match=r"is a checkpoint of the class stranger\.Task, which is not one of this package's, "
    ):
        load_classifier(path)
    convert_checkpoint(path, tmp_path / "weights.safetensors")  # which only builds the model
    assert not ran.exists()
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"kwargs": {"drop_path_rate": FOREIGN}},
        {"kwargs": {"drop_path_rate": '{"class_\\u0070ath": "stranger.Task"}'}},
        {"kwargs": {"drop_path_rate": "class_path: stranger.Task"}},
        {"optimizer": {"name": "adamw", "kwargs": {"eps": [FOREIGN]}}},
        {"optimizer": {"name": "stranger.Task"}},
        {"loss": {"mix": FOREIGN}},
        {"loss": {"mix": "stranger.Task"}},
        {"loss": "stranger.Task"},
        {"data_spec": "stranger.Task"},
        {"schedule": "stranger.Task"},
        {"schedule": {"name": "stranger.Task"}},
        {"schedule": {"kwargs": {"gamma": FOREIGN}}},
    ],
    ids=str,
)
def test_a_class_among_the_arguments(
    stored: dict[str, Any], ran: Path, tmp_path: Path, changes: dict[str, Any], cli: Cli,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = changed(stored, tmp_path / "evil.ckpt", **changes)
    with pytest.raises(UserError, match=r"which could name code to run; it was refused and nothing was imported"):
        load_classifier(path)
    with pytest.raises(SystemExit) as exit_:
        cli(*commands(path)[0])
    assert exit_.value.code == 1
    assert "which could name code to run; it was refused and nothing was imported." in capsys.readouterr().err
    assert not ran.exists()


@pytest.mark.slow
def test_a_class_that_the_command_line_names(
    cli: Cli, stored: dict[str, Any], ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(stored, tmp_path / "own.ckpt", _class_path="stranger.Task")
    words = ["--data.root", "sample", "--trainer.limit_val_batches", 1]
    cli("validate", "--model", "stranger.Task", "--ckpt_path", path, *words)
    assert "\nval_ema      64  0." in capsys.readouterr().out
    assert ran.exists()


def test_checkpoints_of_fit_are_accepted(stored: dict[str, Any]) -> None:
    from jsonargparse import Namespace

    given = Namespace(class_path="inceptionnext_lit.tasks.ClassificationTask", init_args=Namespace())
    defaults = checkpoint_defaults(stored, "best.ckpt", given)
    assert defaults["model"]["class_path"] == "inceptionnext_lit.tasks.classification.task.ClassificationTask"
    assert defaults["model"]["init_args"]["name"] == "inceptionnext_iso_micro"
