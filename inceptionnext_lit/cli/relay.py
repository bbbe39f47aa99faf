"""Run other commands, and pass signals on to them."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from inceptionnext_lit.training.processes import PARENT, SIGNALS


class Relay:
    """Runs processes one after the other, and forwards signals to them while the block lasts.

    Each process is in its own process group, so that Ctrl-C in a terminal does not reach it twice. A command of this
    package also ends when this process is killed.

    Attributes:
        received: The first signal received, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:  # set by nohup and for a shell's background jobs
                self._before[signum] = signal.signal(signum, self._pass_on)
        if hasattr(signal, "SIGTSTP"):
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: Path | None = None) -> int:
        """Run a command and wait for it.

        Args:
            command: The program and its arguments.
            environment: Variables added to this process's environment.
            log: A file that its output is appended to; None for this process's output.

        Returns:
            Its exit code, or 128 + signal if a signal ended it.
        """
        variables = {**os.environ, **environment, PARENT: str(os.getpid())}
        group = 0 if os.name == "posix" else None
        with nullcontext() if log is None else log.open("ab") as output:
            errors = None if output is None else subprocess.STDOUT
            self._child = subprocess.Popen(command, env=variables, process_group=group, stdout=output, stderr=errors)
        if self.received is not None:  # received while the process was starting
            self._child.send_signal(self.received)
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum
        if self._child is not None:
            self._child.send_signal(signum)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Stop and resume together with the child on Ctrl-Z."""
        child = self._child if self._child is not None and self._child.poll() is None else None
        if child is not None:
            os.killpg(child.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        if child is not None:
            os.killpg(child.pid, signal.SIGCONT)
