"""A run's folder ``runs/NAME/version_N``: created and locked before slow work starts, and removed if it stays empty."""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from inceptionnext_lit.cli.runs.run_lock import PREFIX, RunLock
from inceptionnext_lit.errors import UserError

# ranks of processes and nodes as set by torchrun, Lightning, SLURM, LSF and MPI launchers
_RANKS = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
)  # fmt: skip
_ATTEMPTS = 1000
TELL = "INCEPTIONNEXT_LIT_TELL_RUN_FOLDER"  # a file that the run writes its folder's path to


class RunFolder:
    """The folder that a run writes into, held until the run ends.

    Only rank 0 creates and locks it; the other ranks get its path from the trainer. When the block ends, the lock is
    released, and folders that were created here and are still empty are removed.

    Attributes:
        number: N of the folder; None before it is known, and on other ranks than 0.
        path: The folder; None as for ``number``.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.path: Path | None = None
        self._lock: RunLock | None = None
        self._made: list[Path] = []
        self._is_first = is_rank_zero()
        self._owner = os.getpid()
        self._tell = os.environ.pop(TELL, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() == self._owner:
            self._leave()

    def claim(self, root: Path) -> None:
        """Create the next free folder in the folder of a recipe's runs, and lock it.

        Args:
            root: The folder, ``runs/NAME``; created if it does not exist.

        Raises:
            UserError: If it cannot be written.
        """
        if not self._is_first:
            return
        try:
            for _ in range(_ATTEMPTS):
                self._make_parents(root)
                number = max(versions(root), default=-1) + 1
                folder = root / f"version_{number}"
                with suppress(FileExistsError, FileNotFoundError, UserError):  # another run created it, or removed root
                    folder.mkdir()
                    self._made.append(folder)
                    self._take(root, number)
                    return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError as error:
            self._leave()
            raise UserError(
                f"The output folder {root.parent} cannot be written: {error.strerror}. Choose another one with "
                "--trainer.default_root_dir."
            ) from error

    def lock_newest(self, root: Path) -> str | None:
        """Lock the newest run in a folder, so that it can be continued.

        An empty folder, left by a run that was killed at once, is removed if there is an older one.

        Args:
            root: The folder, ``runs/NAME``.

        Returns:
            The dead process that the lock was taken over from, if any.

        Raises:
            UserError: If a live process trains in it, or it cannot be written.
        """
        taken_from = None
        while self._is_first and (numbers := versions(root)):
            number = max(numbers)
            folder = root / f"version_{number}"
            taken_from = self.lock(root, number)
            if len(numbers) == 1 or any(not path.name.startswith(PREFIX) for path in folder.iterdir()):
                break
            self._made = [folder]
            self._leave()
            if folder.exists():  # another process has written into it meanwhile
                return self.lock(root, number)
        return taken_from

    def lock(self, root: Path, number: int) -> str | None:
        """Release the locked folder, and lock another; see :meth:`lock_newest`."""
        if not self._is_first or number == self.number:
            return None
        self._leave()
        try:
            return self._take(root, number)
        except OSError as error:
            raise UserError(
                f"The run folder {root / f'version_{number}'} cannot be written: {error.strerror}."
            ) from error

    def _take(self, root: Path, number: int) -> str | None:
        lock = RunLock(root / f"version_{number}")
        taken_from = lock.acquire()
        self._lock, self.number, self.path = lock, number, root / f"version_{number}"
        if self._tell is not None:
            Path(self._tell).write_text(str(self.path), encoding="utf-8", errors="surrogateescape")
        return taken_from

    def _make_parents(self, root: Path) -> None:
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
                self._made.append(folder)

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock = self.number = self.path = None
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty, so in use
                folder.rmdir()
        self._made = []


def versions(root: Path) -> set[int]:
    """Return the numbers N of the folders ``version_N`` in a folder."""
    return {int(found[1]) for path in root.glob("version_*") if (found := re.fullmatch(r"version_(\d+)", path.name))}


def is_rank_zero() -> bool:
    """Return whether this is rank 0, according to the launchers' variables; usable before the trainer exists."""
    return all(os.environ.get(name, "0") in ("", "0") for name in _RANKS)
