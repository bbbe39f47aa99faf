"""The test suite itself: it runs under nohup and in the background, and every test has a timeout."""

import multiprocessing
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.forked import PRELOADED, run_function
from tests.processes import running, wait_until
from tests.recipes import REPO

PROBE = """
import signal, subprocess, sys

def test_child():
    program = "import signal; print([signal.getsignal(n).name for n in (signal.SIGQUIT, signal.SIGHUP)], end='')"
    program += "; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['SIG_DFL', 'SIG_DFL']True\\n"
"""


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.slow
def test_children_do_not_inherit_ignored_signals(tmp_path: Path) -> None:
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", REPO / "pyproject.toml", probe]
    with running(command, cwd=REPO, preexec_fn=ignore_signals, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        output = run.communicate(timeout=120)[0]
    assert run.returncode == 0, output


def say_what_is_there() -> None:
    print(*(name in sys.modules for name in (*PRELOADED, "torch", "lightning")), threading.active_count())
    print(multiprocessing.get_start_method(), Path.cwd())
    sys.exit("the end")


def test_forked_processes_start_with_the_libraries_and_one_thread(tmp_path: Path) -> None:
    done = run_function(say_what_is_there, cwd=tmp_path)
    assert done.stdout == f"True True True True 1\n{multiprocessing.get_start_method()} {tmp_path}\n"
    assert (done.returncode, done.stderr) == (1, "the end\n")


def test_every_test_has_a_timeout(request: pytest.FixtureRequest) -> None:
    assert 0 < float(request.config.getini("timeout")) <= 1800
    for item in request.session.items:
        if item.get_closest_marker("slow") is not None:
            assert item.get_closest_marker("timeout") is not None, item.nodeid


def test_waiting_too_long_fails() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.1 seconds"):
        wait_until(lambda: None, seconds=0.1)


def test_a_process_is_killed_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), running([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        raise ZeroDivisionError
    assert child.returncode == -signal.SIGKILL
