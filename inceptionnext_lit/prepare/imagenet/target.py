"""Put images into class folders, each completely or not at all."""

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Literal

from inceptionnext_lit.errors import UserError

Mode = Literal["link", "copy", "move"]
_PARTIAL = ".partial"


class Target:
    """The folder that images are put into; thread-safe.

    An image is written under a hidden name and renamed, so an image with its final name is complete, even after a kill.

    Args:
        folder: The folder.
        mode: How existing files get there: symbolic links to their absolute paths, copies, or the files themselves.
    """

    def __init__(self, folder: Path, mode: Mode) -> None:
        self.mode = mode
        self._folder = os.fspath(folder)
        self._made: set[str] = set()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the threads that write here, before their next image."""
        self._stopped.set()

    def has(self, place: str, size: int) -> bool:
        """Return whether an image of this size is there.

        Args:
            place: Where, such as ``train/n01440764/n01440764_18.JPEG``.
            size: Its size in bytes.
        """
        self._check_stopped()
        try:
            return os.stat(self._path(place)).st_size == size
        except FileNotFoundError:
            return False

    def names(self, folder: str) -> list[str]:
        """Return the names of the images in a class folder, which may not exist."""
        try:
            return [name for name in os.listdir(self._path(folder)) if not is_partial(name)]
        except FileNotFoundError:
            return []

    def put_bytes(self, place: str, content: bytes) -> None:
        """Write an image."""
        path = self._prepare(place)
        partial = _hidden(path)
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)

    def put_file(self, place: str, source: str) -> None:
        """Link, copy or move a file, unless that is done.

        Args:
            place: Where.
            source: Its absolute path.
        """
        path = self._prepare(place)
        if self.mode == "link":
            _link(source, path)
        elif self.mode == "move":
            _move(source, path)
        elif not self.has(place, os.stat(source).st_size):
            _copy(source, path)

    def put_folder(self, place: str, source: str) -> bool:
        """Link or move a class folder as a whole.

        Returns:
            Whether it was done; False if its files must be put one by one.
        """
        path = self._prepare(place)
        if self.mode == "copy" or (os.path.isdir(path) and not os.path.islink(path)):
            return False
        if self.mode == "link":
            _link(source, path)
            return True
        if os.path.islink(source):
            return False
        try:
            os.rename(source, path)
        except OSError as error:
            if error.errno != errno.EXDEV:  # another disk
                raise
            return False
        return True

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise UserError("Stopped.")

    def _path(self, place: str) -> str:
        return os.path.join(self._folder, place)

    def _prepare(self, place: str) -> str:
        self._check_stopped()
        path = self._path(place)
        folder = os.path.dirname(path)
        if folder not in self._made:
            if os.path.islink(folder):  # linked as a whole by an earlier run
                os.unlink(folder)
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        return path


def is_partial(name: str) -> bool:
    """Return whether a file is an image that a killed run was writing."""
    return name.startswith(".") and name.endswith(_PARTIAL)


def _hidden(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{_PARTIAL}")


def _link(source: str, path: str) -> None:
    try:
        os.symlink(source, path)
    except FileExistsError:
        if not os.path.islink(path):
            raise
        if os.readlink(path) != source:  # the source was changed since
            os.unlink(path)
            os.symlink(source, path)


def _copy(source: str, path: str, *, flush: bool = False) -> None:
    partial = _hidden(path)
    shutil.copyfile(source, partial)
    if flush:
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
    os.replace(partial, path)


def _move(source: str, path: str) -> None:
    if os.path.islink(source):  # a relative link would lead elsewhere
        if not os.path.lexists(path):
            os.symlink(os.path.realpath(source), path)
        os.unlink(source)
        return
    try:
        os.rename(source, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, path, flush=True)
        os.unlink(source)
