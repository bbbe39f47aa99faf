"""Writing files so that a crash leaves the old one or the new one, never half of one."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the target's place, flushed to disk, when the block ends without an error.

    Args:
        target: The file to be; its folder is made if need be. An old file of this name stays until the very end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's own mode shuts out the rest of a team
        os.replace(name, target)
        _flush_folder(target.parent)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = os.fspath(target)  # a failed write does not tell
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def obstacle(target: Path) -> int | None:
    """The operating system's code for what stands in the way of a file; None where nothing does. Makes nothing."""
    try:
        if target.is_dir():
            return errno.EISDIR
        folder = target.parent
        while not folder.exists() and folder != folder.parent:  # folders that are missing will be made
            folder = folder.parent
        if not folder.is_dir():
            return errno.ENOTDIR
        return None if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
    except OSError as error:
        return error.errno


def _flush_folder(folder: Path) -> None:
    """Make a renaming last through a loss of power."""
    if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
