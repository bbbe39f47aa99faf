"""Settings that Lightning or torch rejects get one sentence, or work; --debug shows the traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.cli.errors import explain_failure, explain_setting
from tests.cli.test_commands import metrics_of
from tests.recipes import SMALL

Cli = Callable[..., None]
WHOLE_AND_PART = ["--trainer.limit_train_batches", "1", "--trainer.val_check_interval=0.5"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]


@pytest.fixture
def error_of(cli: Cli, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail; return its one line on stderr."""

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as exit_:
            cli(*words)
        assert exit_.value.code == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error.removeprefix("error: ").rstrip("\n")

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--trainer.max_epochs", -1, "--trainer.max_time", "00:00:01:00"],
            "The learning rate schedule needs the run's planned end; give --trainer.max_epochs or --trainer.max_steps. "
            "With trainer.max_time too, the run may end earlier.",
        ),
        (["--trainer.strategy", "dpp"], "Unknown trainer.strategy 'dpp'; choose ddp."),
        (
            ["--trainer.barebones", "true"],
            "trainer.barebones disables the logs, checkpoints and progress that every run here has; leave it out.",
        ),
        (
            ["--trainer.val_check_interval", 100, "--trainer.limit_train_batches", 2],
            "trainer.val_check_interval is 100, but an epoch has only 2 batches; choose 2 or less, or count across "
            "epochs with --trainer.check_val_every_n_epoch null.",
        ),
        (
            ["--trainer.limit_val_batches", -3],
            "You have passed invalid value -3 for limit_val_batches, it has to be in [0.0, 1.0] or an int. (Raised "
            "by lightning; --debug shows where.)",
        ),
    ],
)
def test_a_rejected_setting(error_of: Callable[..., str], words: list[object], message: str) -> None:
    said = error_of("fit", *SMALL, *words)
    assert said.startswith(message)
    assert len(said) < len(message) + 60


@pytest.mark.slow
def test_a_single_value_for_batch_norm(
    error_of: Callable[..., str], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data", {"train": 2, "val": 1})
    tiny = ["--model.name", "inceptionnext_nano", "--data.image_size", 32, "--data.batch_size", 1, *SHORT]
    assert error_of("fit", *SMALL, *tiny, "--data.root", root) == (
        "BatchNorm cannot train on a single value per channel, which a batch of 1 image gives on a feature map "
        "of 1×1; choose a --data.batch_size of 2 or more, or a larger --data.image_size."
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", ["typing.Union[int, float]", "typing.Union[float, int]"])
def test_one_batch_is_not_all_batches_for_any_order_of_imports(first: str, tmp_path: Path) -> None:
    words = ["fit", "--config", "quickstart", *WHOLE_AND_PART]
    script = (
        f"import typing; typing.Optional[{first}]\n"
        f"from inceptionnext_lit.cli import main; main({[*words, '--print_config']!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert_one_batch_is_not_all(done.stdout)


def test_one_batch_is_not_all_batches(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("fit", "--config", "quickstart", *WHOLE_AND_PART, "--print_config")
    assert_one_batch_is_not_all(capsys.readouterr().out)


def assert_one_batch_is_not_all(printed: str) -> None:
    settings = yaml.safe_load(printed)["trainer"]
    assert repr(settings["limit_train_batches"]) == "1"
    assert repr(settings["val_check_interval"]) == "0.5"


@pytest.mark.slow
def test_a_single_callback_without_a_list(cli: Cli, tmp_path: Path) -> None:
    cli("fit", *SMALL, *SHORT, "--trainer.callbacks", "LearningRateMonitor", "--trainer.log_every_n_steps", 1)
    assert len(metrics_of(tmp_path / "runs/quickstart/version_0")["lr-AdamW/pg1"]) == 2


@pytest.mark.parametrize("as_flag", [True, False])
def test_debug_shows_the_traceback(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_flag: bool
) -> None:
    monkeypatch.setenv("INCEPTIONNEXT_LIT_DEBUG", "0" if as_flag else "1")
    with pytest.raises(SystemExit):
        cli("fit", *["--debug"] * as_flag, *SMALL, "--trainer.strategy", "dpp")
    error = capsys.readouterr().err
    assert "Traceback (most recent call last):" in error
    assert "ValueError: You selected an invalid strategy name" in error
    assert error.splitlines()[-1].startswith("error: Unknown trainer.strategy 'dpp'; ")


def test_a_failing_kernel_is_explained() -> None:
    class OutOfResources(Exception):
        __module__ = "triton.runtime.errors"

    for error in (OutOfResources("out of resource: shared memory\nReduce block sizes."), RuntimeError("in a graph")):
        if isinstance(error, RuntimeError):
            error.__cause__ = OutOfResources("out of resource: shared memory")
        assert str(explain_failure(error, 8)) == (
            "A Triton kernel failed: out of resource: shared memory. Set model.execution.kernels to torch and "
            "model.execution.compile to false; the run continues with --ckpt_path last."
        )


def test_errors_of_user_code_keep_their_traceback() -> None:
    def broken() -> None:
        raise ValueError("a defect")

    for call in (broken, lambda: {}["key"]):
        with pytest.raises((ValueError, KeyError)) as error:
            call()
        assert explain_failure(error.value, 8) is None
    with pytest.raises(ValueError, match="batch_size") as error:
        DataLoader(TensorDataset(torch.zeros(1)), batch_size=0)
    assert "(Raised by torch; --debug shows" in str(explain_setting(error.value))
    with pytest.raises(Exception, match="invalid accelerator name") as accelerator:
        Trainer(accelerator="gpuu")
    assert "(Raised by lightning; --debug shows" in str(explain_setting(accelerator.value))
