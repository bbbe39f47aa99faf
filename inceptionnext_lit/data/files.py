"""What lies in a folder: its visible folders, and the images at any depth."""

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from inceptionnext_lit.errors import UserError

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
_OTHERS = {".png", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".gif"}
IMAGE_SUFFIXES = frozenset(_JPEG | _OTHERS)
UNREAD_SUFFIXES = frozenset({".heic", ".heif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".svg"})
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def list_images(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """Every image at any depth below a folder, in natural order (``2.jpg`` before ``10.jpg``).

    Hidden files and what operating systems leave behind are skipped without a word; pictures in formats
    that are not read, such as HEIC, with one warning.

    Args:
        folder: Where to look.
        suffixes: Endings of the files that are images, in lower case.
    """
    paths = list(walk_files(folder))
    unread = [path for path in paths if os.path.splitext(path)[1].lower() in UNREAD_SUFFIXES]
    if unread:
        warnings.warn(
            f"{len(unread)} pictures below {folder} are in a format that is not read, such as {unread[0]}, and were "
            "skipped. Convert them to JPEG or PNG to use them.",
            stacklevel=2,
        )
    return sorted((path for path in paths if is_image(path, suffixes)), key=natural_key)


def is_image(name: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a file's ending is that of an image and the file is not hidden."""
    return os.path.splitext(name)[1].lower() in suffixes and not _is_skipped(os.path.basename(name))


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """A folder's entries by name, without hidden ones and what operating systems leave behind.

    Raises:
        UserError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not _is_skipped(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(error) from error


def visible_folders(folder: Path) -> list[os.DirEntry[str]]:
    """The folders among :func:`visible_entries`, links to folders included."""
    return [entry for entry in visible_entries(folder) if entry.is_dir()]


def walk_files(
    folder: str | Path,
    on_error: Callable[[OSError], object] | None = None,
    on_revisit: Callable[[str], object] | None = None,
) -> Iterator[str]:
    """Walks down through links too, but into no folder twice, and not back up into a parent.

    Args:
        folder: Where to begin.
        on_error: Called for a folder that cannot be listed, which is then left out.
        on_revisit: Called with the path of each folder that is left out because it was or will be visited anyway.

    Yields:
        The path of each file that is not hidden and not left behind by an operating system.

    Raises:
        UserError: If a folder cannot be listed, and there is no ``on_error``.
    """

    def fail(error: OSError) -> None:
        raise _unreadable(error) from error

    real = Path(os.path.realpath(folder))
    seen = {str(real), *map(str, real.parents)}
    for current, folders, files in os.walk(folder, onerror=on_error or fail, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = os.path.join(current, name)
            target = os.path.realpath(path)
            if _is_skipped(name):
                continue
            if target not in seen:
                seen.add(target)
                kept.append(name)
            elif on_revisit is not None:
                on_revisit(path)
        folders[:] = kept
        yield from (os.path.join(current, name) for name in files if not _is_skipped(name))


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"Cannot list the folder {error.filename}: {error.strerror}. Check that it exists and may be read."
    )


def natural_key(path: str) -> tuple[str, str]:
    """Key by which ``2.jpg`` sorts before ``10.jpg``, and a folder's content stays together.

    It is text alone, since among a million paths the keys are what takes memory.
    """
    numbered = _NUMBER.sub(_by_length, path.casefold())
    return numbered.replace(os.sep, "\0"), path


def _by_length(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\1{len(digits):03}{digits}"


_NUMBER = re.compile(r"[0-9]+")
