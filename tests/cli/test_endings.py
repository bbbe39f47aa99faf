"""How commands end if they are interrupted or their terminal is closed."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.recipes import REPO, SMALL

Cli = Callable[..., None]

INTERRUPTED_IMPORT = """
import os, signal, sys, time
from inceptionnext_lit import cli

def slow(name):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("a library's own error")

cli.import_heavy = slow
sys.argv = ["cli.py", sys.argv[1]]
cli.main()
"""


@pytest.mark.parametrize("command", ["fit", "budget"])
def test_an_interrupt_while_libraries_are_imported(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, command], cwd=REPO, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_evaluation(
    cli: Cli, trained: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place = "--trainer.callbacks"
    words = [f"{place}+=tests.cli.moments.At", f"{place}.moment", "validating", f"{place}.number", 2]
    words += [f"{place}.what", name]
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(SystemExit) as exit_:
        cli("validate", "--ckpt_path", trained / "checkpoints/last.ckpt", "--data.root", "sample", *words)
    assert exit_.value.code == code
    output = capsys.readouterr()
    assert f"Stopped by {name}." in output.out
    assert "Traceback" not in output.err
    assert signal.getsignal(getattr(signal, name)) == before


@pytest.mark.slow
def test_a_closed_terminal(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    place = "--trainer.callbacks"
    words = ["fit", *SMALL, "--data.root", root, "--data.batch_size", 3, "--trainer.max_epochs", 100000]
    words += [f"{place}+=tests.cli.moments.At", f"{place}.moment", "batch", f"{place}.number", 3]
    words += [f"{place}.what", "SIGCONT"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(REPO / "cli.py"), *map(str, words)])
    deadline = time.monotonic() + 300
    while not (tmp_path / "moment").exists():
        os.set_blocking(terminal, False)
        try:
            os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.1)
        assert time.monotonic() < deadline
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    stored = torch.load(tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt", weights_only=True)
    assert stored["global_step"] >= 3
