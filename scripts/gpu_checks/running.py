"""Run parts in processes of their own, each with a time limit, within a total time."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

_POLL = 0.05  # seconds
_LOG_LINES = 20
_MOST = 200  # characters of a reason
Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Part:
    """Something to run.

    Attributes:
        name: Its name in the report.
        title: What it does.
        command: Returns the command line, given the file to which the process writes its result as JSON: an object
            with ``result`` and, if the part failed, ``failure``. It may write the file many times.
        limit: Seconds after which it is killed.
        least: Seconds that must be left to start it.
        why_not: Why it cannot run here; empty if it can.
        environment: Environment variables beside this process's own.
    """

    name: str
    title: str
    command: Callable[[Path], Sequence[str]]
    limit: float
    least: float = 0.0
    why_not: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        status: Whether it passed.
        reason: Why not; empty if it passed.
        seconds: How long it ran; None if it did not.
        result: What it measured, also before it failed; None if nothing.
        log: If it failed, the last lines that it printed.
    """

    status: Status
    reason: str = ""
    seconds: float | None = None
    result: Any = None
    log: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The status and the reason."""
        return f"{self.status}: {self.reason}" if self.reason else self.status


class Stopped(Exception):
    """A signal asked to stop.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def run(
    stages: Sequence[Sequence[Part]],
    seconds: float,
    save: Callable[[Mapping[str, Outcome]], None],
    tell: Callable[[str], None],
    asked_to_stop: Callable[[], int | None] = lambda: None,
) -> dict[str, Outcome]:
    """Run stages one after another; the parts of a stage run at the same time.

    Args:
        stages: The parts, the most important first. One that no longer fits into the time is skipped.
        seconds: Total time.
        save: Called with all outcomes so far, after each part.
        tell: Called with a line about each start and end.
        asked_to_stop: Returns the number of a signal that asks to stop, or None.

    Returns:
        The outcome of each part by its name.

    Raises:
        Stopped: If asked to stop, after the processes were killed and what they had measured was saved.
    """
    end = time.monotonic() + seconds
    outcomes: dict[str, Outcome] = {}

    def note(part: Part, outcome: Outcome) -> None:
        outcomes[part.name] = outcome
        save(outcomes)
        spent = "" if outcome.seconds is None else f" ({outcome.seconds:.0f} s)"
        tell(f"{part.name}: {outcome.text}{spent}")

    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as folder:
        for stage in stages:
            processes: list[_Process] = []
            try:
                for part in stage:
                    left = end - time.monotonic()
                    reason = part.why_not or ("no time left" if left <= part.least else "")
                    if reason:
                        note(part, Outcome("not run", reason))
                    else:
                        tell(f"{part.name}: {part.title}")
                        processes.append(_Process(part, Path(folder), min(part.limit, left)))
                _wait(processes, note, asked_to_stop)
            finally:
                for process in processes:  # those that are still running, after an exception
                    process.kill()
    return outcomes


def _wait(
    processes: "list[_Process]", note: Callable[[Part, Outcome], None], asked_to_stop: Callable[[], int | None]
) -> None:
    """Wait until all have ended, and remove them."""
    while processes:
        if (number := asked_to_stop()) is not None:
            stopped = Stopped(number)
            while processes:
                note(processes[0].part, processes[0].end(str(stopped)))
                processes.pop(0)
            raise stopped
        for process in tuple(processes):
            if process.has_ended or process.is_late:
                note(process.part, process.end(process.lateness if process.is_late else ""))
                processes.remove(process)
        time.sleep(_POLL)


class _Process:
    """The process of a part.

    Args:
        part: The part.
        folder: Folder for its files.
        limit: Seconds after which it is killed.
    """

    def __init__(self, part: Part, folder: Path, limit: float) -> None:
        self.part = part
        self._limit = limit
        self._report, self._log = folder / f"{part.name}.json", folder / f"{part.name}.log"
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            # a session of its own, so that it is killed with its children and a terminal's Ctrl-C does not reach it
            self._process = subprocess.Popen(
                part.command(self._report), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **part.environment},  # an error's lines are then the last
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def is_late(self) -> bool:
        return not self.has_ended and time.monotonic() - self._started > self._limit

    @property
    def lateness(self) -> str:
        why = "its limit" if self._limit == self.part.limit else "what was left of the total time"
        return f"killed after {self._limit:.0f} s, {why}"

    def end(self, reason: str = "") -> Outcome:
        """Kill what is still running, and return the outcome; a reason means that it was not let to its end."""
        code = self._process.poll()
        self.kill()
        result, failure = self._read()
        log = self._log.read_text("utf-8", errors="replace").split("\n")
        log = [line.rstrip() for line in log if line.strip()][-_LOG_LINES:]
        reason = reason or _reason(code, failure, log)
        seconds = time.monotonic() - self._started
        if not reason:
            return Outcome("passed", "", seconds, result)
        return Outcome("failed", reason[:_MOST], seconds, result, log)

    def kill(self) -> None:
        """Kill the process and all that descend from it."""
        if not self.has_ended:  # afterwards, the system may give its number to another process
            for process in _descendants(self._process.pid):  # also those in sessions of their own
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _read(self) -> tuple[Any, str]:
        """Return the result, and why the part failed."""
        try:
            report = json.loads(self._report.read_text("utf-8"), parse_constant=_refuse)
            return report["result"], str(report.get("failure") or "")
        except FileNotFoundError:
            return None, "it wrote no result"
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return None, f"its result cannot be read: {error}"


def _reason(code: int | None, failure: str, log: Sequence[str]) -> str:
    """Return why a part failed, given its exit code and what it said; empty if it passed."""
    if code is not None and code < 0:
        memory = ", most often for lack of memory" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{memory}"
    if code:
        said = failure if failure != "it wrote no result" else ""
        return said or (log[-1] if log else f"exit code {code}")
    return failure


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _descendants(process: int) -> list[int]:
    """Return the processes that descend from a process, on Linux."""
    children: dict[int, list[int]] = defaultdict(list)
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # the name in parentheses may have spaces and parentheses; the state and the parent follow it
            children[int(file.read_text().rpartition(")")[2].split()[1])].append(int(file.parent.name))
    found = [process]
    for one in found:
        found += children[one]
    return found[1:]
