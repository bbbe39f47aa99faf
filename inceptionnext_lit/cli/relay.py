"""Commands that run another command: its signals, and its end, are theirs."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from inceptionnext_lit.training.processes import PARENT, SIGNALS


class Relay:
    """Runs processes one after the other, and passes on the signals that this process gets while the block lasts.

    The processes are in a group of their own, so that a terminal's Ctrl-C does not reach them twice. One that is a
    command of this package ends also when this process is killed.

    Attributes:
        received: The first signal that came; None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:  # as nohup and a shell's background jobs have it
                self._before[signum] = signal.signal(signum, self._pass_on)
        if hasattr(signal, "SIGTSTP"):
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a command to its end.

        Args:
            command: Its words.
            environment: Variables that it gets on top of this process's own.

        Returns:
            Its exit code, 128 + signal if a signal ended it.
        """
        variables = {**os.environ, **environment, PARENT: str(os.getpid())}
        group = 0 if os.name == "posix" else None
        self._child = subprocess.Popen(command, env=variables, process_group=group)
        if self.received is not None:  # it came while the process was made
            self._child.send_signal(self.received)
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum
        if self._child is not None:
            self._child.send_signal(signum)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stop and go on together."""
        child = self._child if self._child is not None and self._child.poll() is None else None
        if child is not None:
            os.killpg(child.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        if child is not None:
            os.killpg(child.pid, signal.SIGCONT)
