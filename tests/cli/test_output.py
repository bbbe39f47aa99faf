"""Commands whose output loses its reader end silently, and training continues."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.cli.output import Output, ReaderGone, outliving_readers
from tests.forked import as_script, run_function
from tests.recipes import REPO, SMALL


def broken_pipe() -> io.TextIOWrapper:
    """Return a stream without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_lost_reader(goes_on: bool) -> None:
    with broken_pipe() as stream:
        output = Output(stream, goes_on=goes_on)
        if goes_on:
            assert output.write("a line\n") == 7
        else:
            with pytest.raises(ReaderGone) as gone:
                output.write("a line\n")
            assert gone.value.code == 141
        assert output.write("another\n") == 8  # discarded
        output.flush()
        assert output.fileno() == stream.fileno()


def test_a_closed_terminal() -> None:
    terminal, end = os.openpty()
    with os.fdopen(end, "w", buffering=1) as stream:
        os.close(terminal)
        with pytest.raises(OSError, match="Input/output error") as error:
            stream.write("a line\n")
        assert error.value.errno == errno.EIO
        assert Output(stream, goes_on=True).write("a line\n") == 7


def test_other_errors_are_raised() -> None:
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "w", buffering=1) as stream:
        Output(stream, goes_on=True).write("a line\n")


def test_the_streams_are_restored(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with outliving_readers(goes_on=False):
        print("here")
        print("there", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("here\n", "there\n")


def run_without_reader(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose output has no reader, in a new interpreter, which also closes its streams at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(REPO / "cli.py"), *words]
    done = subprocess.run(command, cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    return done


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 141),
        (["--version"], 141),
        (["fit", "--help"], 0),
        (["doctor", "sample"], 141),
        pytest.param(["budget", "vgg11"], 141, marks=pytest.mark.slow),
    ],
)
def test_a_command_without_a_reader(words: list[str], code: int, tmp_path: Path) -> None:
    done = run_without_reader(words, tmp_path)
    assert (done.returncode, done.stderr) == (code, "")


def without_reader(script: Path, *words: str) -> None:
    """Run a script in this process, whose output loses its reader."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    sys.stdout = os.fdopen(1, "w")  # of a pipe: the one that was forked is of a file
    as_script(script, *words)


@pytest.mark.slow
def test_training_continues_without_a_reader(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    words = ["fit", *SMALL, "--data.root", str(root), "--data.batch_size", "6", "--trainer.max_epochs", "1"]
    words += ["--model.schedule.warmup_epochs", "0.5"]
    done = run_function(without_reader, REPO / "cli.py", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "runs/quickstart/version_0/checkpoints/best.ckpt").is_file()
