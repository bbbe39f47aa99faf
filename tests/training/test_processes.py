"""Ranks that exit with their parent process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import running, wait_until
from tests.recipes import REPO

STARTER = """
import os, subprocess, sys, time
environment = {**os.environ, **dict(word.split("=") for word in sys.argv[2:])}
environment = {name: value.replace("MY_PID", str(os.getpid())) for name, value in environment.items()}
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=environment)
print(child.pid, flush=True)
time.sleep(600)
"""
CHILD = """
import os, signal, sys, time
from inceptionnext_lit.training.processes import terminate_with_parent

def save(signum, frame):
    open("saved", "w").close()
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
terminate_with_parent()
open("ready", "w").close()
{then}
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _not_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what a command run in this process has set as the first rank."""
    monkeypatch.delenv("INCEPTIONNEXT_LIT_FIRST_PROCESS", raising=False)


@pytest.mark.parametrize(
    ("variables", "then", "saves"),
    [
        pytest.param(["LOCAL_RANK=1"], "", False, marks=pytest.mark.slow),
        (["LOCAL_RANK=1"], "os.kill(os.getpid(), signal.SIGSTOP)", False),
        (["INCEPTIONNEXT_LIT_PARENT=MY_PID"], "", True),
    ],
)
def test_ranks_exit_with_their_parent(tmp_path: Path, variables: list[str], then: str, saves: bool) -> None:
    with running(
        [sys.executable, "-c", STARTER, CHILD.format(then=then), *variables],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, stdout=subprocess.PIPE,
    ) as starter:  # fmt: skip
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        wait_until((tmp_path / "ready").exists)
        assert child.is_running()
        starter.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive
    assert (tmp_path / "saved").exists() is saves


def test_a_rank_whose_parent_has_already_exited_exits_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(then="")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO), "LOCAL_RANK": "1",
                           "INCEPTIONNEXT_LIT_FIRST_PROCESS": str(2**22 + 1)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1


def test_other_processes_continue(tmp_path: Path) -> None:
    script = "import os\n" + CHILD.format(then="sys.exit(5)")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, timeout=60
    )
    assert done.returncode == 5
