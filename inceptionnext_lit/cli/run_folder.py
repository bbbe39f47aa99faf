"""A run's folder ``runs/NAME/version_N``: claimed before anything slow begins, locked, and removed if nothing came."""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from inceptionnext_lit.cli.run_lock import PREFIX, RunLock
from inceptionnext_lit.errors import UserError

# what torchrun, Lightning, SLURM, LSF and MPI launchers number processes and machines by
_RANKS = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
)  # fmt: skip
_ATTEMPTS = 1000
TELL = "INCEPTIONNEXT_LIT_TELL_RUN_FOLDER"  # a file into which a run writes where its folder is


class RunFolder:
    """The folder that a run writes into, from the moment it is known until the run ends.

    Only the first process of a run makes and locks it; the others are told by the trainer where it is. Without any
    process of this kind nothing happens here. When the block ends, the lock is given back, and folders that were made
    here and are still empty are removed.

    Attributes:
        number: N of the folder; None before it is known, and on other processes than the first.
        path: The folder, likewise.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.path: Path | None = None
        self._lock: RunLock | None = None
        self._made: list[Path] = []
        self._is_first = is_first_process()
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
        """Make the next free folder below the folder of a recipe's runs, and lock it.

        Args:
            root: The folder, ``runs/NAME``; made if it does not exist.

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
                with suppress(FileExistsError, FileNotFoundError, UserError):  # another run was faster, or tidied up
                    folder.mkdir()
                    self._made.append(folder)
                    self._take(root, number)
                    return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError as error:
            self._leave()
            raise UserError(
                f"The output folder {root.parent} cannot be written: {error.strerror}. Name another one with "
                "--trainer.default_root_dir."
            ) from error

    def lock_newest(self, root: Path) -> str | None:
        """Lock the newest run below a folder, so that it can be continued.

        A folder that holds nothing, because its run was killed at once, is removed if there is an older one.

        Args:
            root: The folder, ``runs/NAME``.

        Returns:
            Which dead process the lock was taken over from, if any.

        Raises:
            UserError: If a process that lives trains in it, or it cannot be written.
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
            if folder.exists():  # something came into it all the same
                return self.lock(root, number)
        return taken_from

    def lock(self, root: Path, number: int) -> str | None:
        """Lock a run's folder, in place of the one that is locked; see :meth:`lock_newest`."""
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
            with suppress(OSError):  # what is in use is not empty
                folder.rmdir()
        self._made = []


def versions(root: Path) -> set[int]:
    """The numbers N of the folders ``version_N`` in a folder."""
    return {int(found[1]) for path in root.glob("version_*") if (found := re.fullmatch(r"version_(\d+)", path.name))}


def is_first_process() -> bool:
    """Whether this is the first process of a run, as far as launchers tell before the trainer exists."""
    return all(os.environ.get(name, "0") in ("", "0") for name in _RANKS)
