"""Images that cannot be read: report them early, or skip them in training with a warning."""

import csv
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.decode.arrays import TENSOR_SUFFIXES
from inceptionnext_lit.data.decode.image import reading
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, open_image
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.splitting.selection import Split
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count

_LOOKED_AT = 2000
_SHOWN = 5


@dataclass(frozen=True)
class BadImageOptions:
    """What to do about images that cannot be read.

    Attributes:
        action: For a training image that cannot be read: ``error``, or ``skip`` to use the next image instead, with a
            warning and an entry in ``bad_images.csv`` in the run folder. In evaluation it is always an error.
        max_skipped: Maximum number of skipped images.
        max_pixels: Maximum number of pixels of an image; larger images are refused from their header, since a file of
            a megabyte can contain more pixels than fit into memory. Reading takes about 14 bytes per pixel.

    Raises:
        UserError: If a value is out of its range.
    """

    action: Literal["error", "skip"] = "error"
    max_skipped: int = 100
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_choices(self, "data.bad_images")
        check("bad_images.max_skipped", self.max_skipped, self.max_skipped >= 0, "0 or more")
        check("bad_images.max_pixels", self.max_pixels, self.max_pixels >= 1, "1 pixel or more")

    @property
    def skips(self) -> bool:
        """Whether training skips images that cannot be read."""
        return self.action == "skip"


class BadImages:
    """Record skipped images, each once, in a file that all ranks share.

    Args:
        most: Maximum number of skipped images.
        path: The CSV file with the columns ``path`` and ``reason``; None until the run has a folder.
    """

    def __init__(self, most: int, path: Path | None = None) -> None:
        self.most = most
        self.path = path
        self._noted: set[str] = set()

    def begin(self, folder: Path) -> None:
        """Use ``bad_images.csv`` in a folder, which is created if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "bad_images.csv"

    def note(self, path: str, reason: Exception) -> None:
        """Record an image, with a warning.

        Raises:
            UserError: If there are too many images, or the file cannot be written.
        """
        if path in self._noted:
            return
        if self.path is not None:
            self._noted.update(self._append(path, str(reason)))
            if path in self._noted:
                return
        self._noted.add(path)
        warnings.warn(f"Skipped in training: {reason}", stacklevel=2)
        if len(self._noted) > self.most:
            where = "" if self.path is None else f"; they are listed in {self.path}"
            most = count(self.most, "training image")
            raise UserError(
                f"More than {most} cannot be read (data.bad_images.max_skipped){where}. Check the whole folder "
                "with the subcommand doctor, and replace or remove them."
            )

    def read(self) -> list[str]:
        """Return the images that all ranks have recorded so far."""
        if self.path is None or not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return _paths(file)

    def _append(self, path: str, reason: str) -> list[str]:
        """Add an image unless another process has; return those that were there before."""
        assert self.path is not None
        try:
            with self.path.open("a+", newline="", encoding="utf-8", errors="surrogateescape") as file:
                _lock(file)
                file.seek(0)
                known = _paths(file)
                if path not in known:
                    if os.fstat(file.fileno()).st_size == 0:
                        file.write("path,reason\n")
                    csv.writer(file).writerow([path, reason])
                return known
        except OSError as error:
            raise UserError(f"The list of skipped images {self.path} cannot be written: {error.strerror}.") from error


def _paths(file: Iterable[str]) -> list[str]:
    """Return the images in a list of skipped images, each once."""
    return list(dict.fromkeys(row["path"] for row in csv.DictReader(file) if row.get("path")))


def _lock(file: IO[str]) -> None:
    """Wait until no other process writes to a file; it is free when this one closes it.

    On Windows and on file systems without locks, nothing is waited for.
    """
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def check_headers(paths: PackedStrings, max_pixels: int) -> None:
    """Check the headers of at most 2,000 images, spread evenly over the data set.

    Args:
        paths: The images.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        UserError: If files are not images or too large; names the first few.
    """
    step = max(1, len(paths) // _LOOKED_AT)
    looked_at = paths[::step]
    found = [error for error in _each(looked_at, partial(_header, max_pixels)) if error is not None]
    if found:
        more = "" if len(found) <= _SHOWN else f" (and {len(found) - _SHOWN} more)"
        looked = "" if step == 1 else f" of the {len(looked_at):,} that were checked"
        raise UserError(
            f"{count(len(found), 'image')}{looked} cannot be read: "
            f"{' '.join(str(error) for error in found[:_SHOWN])}{more} The subcommand doctor lists all; "
            "--data.bad_images.action skip trains without them."
        )


def hold_back_readable(train: Samples, val: Samples, load: Callable[[str], object], *, may_move: bool) -> Split:
    """Read all validation images, and move those that cannot be read to training, where they are recorded.

    Args:
        train: Training images.
        val: Validation images.
        load: Reads an image file; raises UserError if it cannot be read.
        may_move: Whether the validation images were held back; a separate validation split does not change.

    Raises:
        UserError: If an image cannot be read and must not be moved.
    """

    def read(path: str) -> UserError | None:
        try:
            load(path)
        except UserError as error:
            return error
        return None

    errors = _each(val.paths, read)
    found = [error for error in errors if error is not None]
    if found and not may_move:
        raise UserError(
            f"{count(len(found), 'validation image')} cannot be read, and evaluation does not skip images: "
            f"{' '.join(str(error) for error in found[:_SHOWN])}"
        )
    bad = np.array([error is not None for error in errors], dtype=bool)
    return train + val.take(bad), val.take(~bad)


def _header(max_pixels: int, path: str) -> UserError | None:
    if path.lower().endswith(TENSOR_SUFFIXES):
        return None
    try:
        with reading(path), open_image(path, max_pixels):
            return None
    except UserError as error:
        return error


def _each(paths: Iterable[str], function: Callable[[str], UserError | None]) -> list[UserError | None]:
    with ThreadPoolExecutor() as pool:  # decoding releases the GIL
        return list(pool.map(function, paths))
