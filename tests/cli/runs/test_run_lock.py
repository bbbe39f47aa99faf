"""Locks on a run's folder by live and dead processes, on this and other machines."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from inceptionnext_lit.cli.runs import run_lock
from inceptionnext_lit.cli.runs.run_lock import RunLock, _this_process, read_locks
from inceptionnext_lit.errors import UserError
from tests.processes import wait_until


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that does not train."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def lock_of(folder: Path, **changes: Any) -> Path:
    """Write a lock with other values than this process would write."""
    path = folder / ".lock.0"
    path.write_text(json.dumps(asdict(replace(_this_process(), **changes))))
    return path


def test_a_free_folder(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    assert lock.acquire() is None
    [(path, content)] = read_locks(tmp_path).items()
    held = json.loads(content)
    assert (path.name, held["pid"]) == (".lock.0", os.getpid())
    assert held["host"] == os.uname().nodename
    assert held["since"][:4] == time.strftime("%Y")
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_live_holder_refuses_in_one_sentence(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    path = lock_of(tmp_path, pid=other.pid, started=run_lock._start_of(other.pid), since="2026-01-02 03:04:05")
    with pytest.raises(UserError) as refusal:
        RunLock(tmp_path).acquire()
    assert str(refusal.value) == (
        f"The run in {tmp_path} is still active in process {other.pid} on {os.uname().nodename} (since 2026-01-02 "
        "03:04:05). Wait for it or stop it, then continue with --ckpt_path last; without that key a new run starts."
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["killed", "not yet buried", "number in use again"])
def test_a_dead_holder_is_replaced_at_once(tmp_path: Path, other: subprocess.Popen[bytes], how: str) -> None:
    start = run_lock._start_of(other.pid)
    assert start is not None
    lock_of(tmp_path, pid=other.pid, started=start - (how == "number in use again"))
    if how != "number in use again":
        other.send_signal(signal.SIGKILL)
    if how == "killed":
        other.wait()
    while how == "not yet buried" and run_lock._start_of(other.pid) != 0:
        time.sleep(0.01)
    lock = RunLock(tmp_path)
    taken_from = lock.acquire()
    assert taken_from is not None
    assert taken_from.startswith(f"process {other.pid} on {os.uname().nodename} (since ")
    assert [path.name for path in read_locks(tmp_path)] == [".lock.1"]
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path).acquire()
    lock.release()


@pytest.mark.slow
def test_a_holder_on_another_machine_is_detected_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "SILENCE_S", 3.0)
    path = lock_of(tmp_path, host="node7")
    done = threading.Event()

    def beat() -> None:
        while not done.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(UserError, match=r"process \d+ on node7"):
        RunLock(tmp_path).acquire()
    done.set()
    thread.join()
    lock = RunLock(tmp_path)  # no more heartbeats
    taken_from = lock.acquire()
    assert taken_from is not None
    assert "on node7" in taken_from
    lock.release()


@pytest.mark.parametrize("changes", [{"host": "node7"}, {"place": "before the machine was rebooted"}])
def test_an_old_lock_of_another_machine_is_replaced_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    path = lock_of(tmp_path, **changes)
    long_ago = time.time() - run_lock.SILENCE_S - 5
    os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr(run_lock.time, "sleep", lambda _: pytest.fail("it waits"))
    lock = RunLock(tmp_path)
    assert lock.acquire() is not None
    lock.release()


def test_the_holder_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_S", 0.02)
    lock = RunLock(tmp_path)
    lock.acquire()
    path = tmp_path / ".lock.0"
    os.utime(path, (1, 1))
    wait_until(lambda: path.stat().st_mtime > time.time() - 60)
    lock.release()


LOSER = """
import sys, time
from pathlib import Path
from inceptionnext_lit.cli.runs import run_lock
run_lock.BEAT_S = 0.05
run_lock.RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_that_lost_its_lock_ends_before_writing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOSER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as loser:
        assert loser.stdout is not None
        assert loser.stdout.readline() == "held\n"
        (tmp_path / ".lock.1").write_text(json.dumps(asdict(replace(_this_process(), host="node7", pid=11))))
        _, error = loser.communicate(timeout=60)
    assert loser.returncode == 1
    assert error.startswith("error: process 11 on node7 (since ")
    assert f"has taken over the run in {tmp_path}" in error


def contend(folder: Path, start: threading.Barrier) -> RunLock | None:
    lock = RunLock(folder)
    start.wait()
    try:
        lock.acquire()
    except UserError:
        return None
    return lock


def test_only_one_of_many_takes_over(tmp_path: Path) -> None:
    for trial in range(20):
        folder = tmp_path / str(trial)
        folder.mkdir()
        lock_of(folder, pid=2**22 + 1)  # above any process ID
        start, won, refused = threading.Barrier(4), [], []

        def contend(
            start: Any = start, folder: Path = folder, won: list[Any] = won, refused: list[Any] = refused
        ) -> None:
            lock = RunLock(folder)
            start.wait()
            try:
                lock.acquire()
            except UserError:
                refused.append(lock)
            else:
                won.append(lock)

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1  # if two collide, both may give up
        assert len(won) + len(refused) == 4
        assert len(read_locks(folder)) == len(won)
        for lock in won:
            lock.release()
