"""Lock a run's folder, so that only one process at a time trains in it; works on network disks too."""

import json
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from inceptionnext_lit.errors import UserError

BEAT_S = 20.0
SILENCE_S = 180.0
PREFIX = ".lock."
_ADVICE = "Wait for it or stop it, then continue with --ckpt_path last; without that key a new run starts."


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: Name of its machine.
        place: Boot ID and process namespace of the machine, within which ``pid`` is unique; empty if unknown.
        pid: Its process ID there.
        started: Its start time, in clock ticks since the machine's boot; None if unknown.
        since: When it took the lock, for messages.
        token: A random string that identifies this lock.
    """

    host: str
    place: str
    pid: int
    started: int | None
    since: str
    token: str

    def __str__(self) -> str:
        """Describe the process, for a message."""
        return f"process {self.pid} on {self.host} (since {self.since})"


class RunLock:
    """Lock held by the process that trains in a folder.

    The lock is the newest of the folder's files ``.lock.N``, each created exclusively, which is atomic on network disks
    too. To replace a dead holder, a process creates the next number; a release removes the file. The holder touches its
    file every 20 seconds, which shows other machines that it is alive.

    Args:
        folder: The run's folder, which exists.
        advice: What to do if another process holds it.
    """

    def __init__(self, folder: Path, advice: str = _ADVICE) -> None:
        self._folder = folder
        self._advice = advice
        self._file: Path | None = None
        self._content = b""
        self._released = threading.Event()

    def acquire(self) -> str | None:
        """Take the lock.

        Returns:
            The dead process that it was taken over from; None if it was free.

        Raises:
            UserError: If the process that holds it is alive.
            OSError: If the folder cannot be written.
        """
        dead: dict[Path, bytes] = {}
        self._content = json.dumps(asdict(_this_process())).encode()
        while self._file is None:
            found = read_locks(self._folder)
            for path, content in found.items():
                if dead.get(path) != content and _is_alive(path, content):
                    raise UserError(_refusal(self._folder, path, content, self._advice))
                dead[path] = content
            file = self._folder / f"{PREFIX}{max(map(_number, found), default=-1) + 1}"
            if not _create(file, self._content):
                continue
            self._file = file
            if any(path != file and dead.get(path) != content for path, content in read_locks(self._folder).items()):
                self._remove()  # another process has taken it meanwhile
        for path in dead:
            path.unlink(missing_ok=True)
        threading.Thread(target=self._beat, name="run-lock", daemon=True).start()
        return ", ".join(map(_describe, dead.values())) or None

    def release(self) -> None:
        """Release the lock."""
        self._released.set()
        self._remove()

    def _remove(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()
            self._file = None

    def _beat(self) -> None:
        """Touch the file regularly, and end this process if another one took over because it seemed dead."""
        while not self._released.wait(BEAT_S):
            file = self._file
            with suppress(OSError):  # a network disk may be unavailable for a while
                others = [c for path, c in read_locks(self._folder).items() if path != file and c]
                if others and not self._released.is_set():
                    print(
                        f"error: {_describe(others[0])} has taken over the run in {self._folder} while this one did "
                        "not respond; this process ends.",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(1)  # nothing more may be written
                if file is not None:
                    os.utime(file)


def read_locks(folder: Path) -> dict[Path, bytes]:
    """Return the lock files of a folder with their content, oldest first."""
    found = {}
    for path in sorted((p for p in folder.glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdecimal()), key=_number):
        with suppress(FileNotFoundError):
            found[path] = path.read_bytes()
    return found


def _number(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _create(file: Path, content: bytes) -> bool:
    """Create a file with this content; return False if it exists."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(handle, content)
        os.fsync(handle)
    except OSError:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _this_process() -> Holder:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(socket.gethostname(), _place(), pid, _start_of(pid), since, secrets.token_hex(8))


def _parse(content: bytes) -> Holder | None:
    """Return the holder, or None while its file is being written."""
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _describe(content: bytes) -> str:
    holder = _parse(content)
    return "another process" if holder is None else str(holder)


def _refusal(folder: Path, lock: Path, content: bytes, advice: str) -> str:
    holder = _parse(content)
    doubtful = holder is not None and holder.started is None
    return (
        f"The run in {folder} is still active in {_describe(content)}. {advice}"
        + f" If that process is not a run, delete {lock}." * doubtful
    )


def _is_alive(path: Path, content: bytes) -> bool:
    """Return whether the holder of a lock is alive: by its process ID on this machine, or else by its heartbeat."""
    for _ in range(20):
        if (holder := _parse(content)) is not None:
            break
        time.sleep(0.1)  # still being written
        content = path.read_bytes() if path.exists() else content
    if holder is not None and (holder.host, holder.place) == (socket.gethostname(), _place()) and os.name == "posix":
        return _is_running(holder)
    return _beats(path, "another process" if holder is None else str(holder))


def _is_running(holder: Holder) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # exists, but belongs to another user
        pass
    start = _start_of(holder.pid)
    return start is None or holder.started is None or start == holder.started


def _start_of(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; 0 if it is dead, None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _beats(path: Path, name: str) -> bool:
    """Return whether a lock is touched within ``SILENCE_S``, without comparing the clocks of machines."""
    try:
        first = _touched(path)
        probe = path.with_name(f".probe.{secrets.token_hex(8)}")
        _create(probe, b"")
        age = _touched(probe) - first
        probe.unlink()
        end = time.monotonic() + SILENCE_S - min(max(age, 0), SILENCE_S)
        if age < SILENCE_S:
            print(f"Waiting up to {SILENCE_S / 60:.0f} minutes for a heartbeat of {name}.", flush=True)
        while time.monotonic() < end:
            time.sleep(min(1.0, SILENCE_S / 10))
            if _touched(path) != first:
                return True
    except FileNotFoundError:  # released
        pass
    return False


def _touched(path: Path) -> float:
    with path.open("rb") as file:  # opened, since network disks cache the result of stat
        return os.fstat(file.fileno()).st_mtime
