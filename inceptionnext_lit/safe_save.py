"""Write files atomically: a crash leaves the old file or the new one, never a partial one."""

import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_SHOWN = 40  # characters of a name; in UTF-8 these are up to 160 of the 255 bytes that a name may have
_asking = threading.Lock()  # the mask can only be read by changing it


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces the target, flushed to disk, if the block ends without an error.

    Args:
        target: The file to write; its folder is created if needed. An existing file stays until the replacement.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=partial_prefix(target), suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's mode denies access to the group
        os.replace(name, target)
        flush_folder(target.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = os.fspath(target)  # a failed write does not name its file
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def partial_prefix(target: Path) -> str:
    """Return the start of the name of a target's temporary file; together with a suffix, it is not too long."""
    return f".{target.name[:_SHOWN]}."


def obstacle(target: Path) -> int | None:
    """Return the error code of what prevents writing a file, or None; nothing that is created stays."""
    try:
        if target.is_dir():
            return errno.EISDIR
        folder = target.parent
        while not folder.exists() and folder != folder.parent:  # missing folders will be created
            folder = folder.parent
        if not folder.is_dir():
            return errno.ENOTDIR
        if not os.access(folder, os.W_OK | os.X_OK):
            return errno.EACCES
        with tempfile.TemporaryFile(dir=folder):  # /proc and /sys refuse even those who may write there
            return None
    except OSError as error:
        return error.errno


def flush_folder(folder: Path) -> None:
    """Make a rename survive a power failure."""
    if hasattr(os, "O_DIRECTORY"):  # a folder cannot be opened on other systems
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    with _asking:
        mask = os.umask(0)
        os.umask(mask)
    return mask
