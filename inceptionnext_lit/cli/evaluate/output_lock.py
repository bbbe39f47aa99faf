"""Hold an output folder, so that two commands do not write into it at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inceptionnext_lit.cli.runs.run_lock import RunLock
from inceptionnext_lit.errors import UserError


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Create a folder if needed and lock it for the block; what was created and is still empty is removed.

    Args:
        folder: The folder.

    Raises:
        UserError: If another process holds it, or it cannot be written.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    lock = RunLock(folder, "Wait for it or stop it, or give another --output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}; give another folder.") from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # it is not empty, or another process has removed it
            for one in made:
                one.rmdir()
