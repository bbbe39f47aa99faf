"""The allocator that keeps freed memory."""

import platform
from pathlib import Path

import pytest

from inceptionnext_lit.allocator import VARIABLE, keep_memory
from inceptionnext_lit.cli.commands import fit as command
from tests.forked import run_code

PROGRAM = """
from pathlib import Path
import torch
from inceptionnext_lit.allocator import keep_memory
def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
told = keep_memory()
before = resident()
tensor = torch.ones(50_000_000)
del tensor
print(told, resident() - before > 150_000)
"""


@pytest.mark.parametrize("value", ["1", "0"])
def test_freed_memory_stays_with_the_process_unless_switched_off(value: str, tmp_path: Path) -> None:
    told = value == "1" and platform.libc_ver()[0] == "glibc"
    done = run_code(PROGRAM, [], tmp_path, **{VARIABLE: value})
    assert done.stdout.split() == [str(told), str(told)], done.stderr


def test_without_glibc_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_memory() is False


def test_a_command_with_a_trainer_keeps_memory_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(command, "keep_memory", lambda: order.append("keep_memory"))
    monkeypatch.setattr(command, "CommandLine", lambda *args, **kwargs: order.append("command"))
    command.run(["fit"])
    assert order == ["keep_memory", "command"]
