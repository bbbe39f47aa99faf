"""What lies in a folder: its visible folders, and the images at any depth."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from inceptionnext_lit.data.decode.opening import has_image_signature
from inceptionnext_lit.data.decode.signatures import HEIF_SUFFIXES
from inceptionnext_lit.data.sources.scan import Scan
from inceptionnext_lit.errors import UserError

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}
_JPEG_2000 = {".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
_OTHERS = {".png", ".apng", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".ico"}
IMAGE_SUFFIXES = frozenset(_JPEG | _JPEG_2000 | _OTHERS) | (HEIF_SUFFIXES if find_spec("pillow_heif") else frozenset())
UNREAD_SUFFIXES = HEIF_SUFFIXES | {
    ".jxl", ".jxr", ".svg", ".eps", ".wmf", ".emf", ".psd", ".xcf", ".tga", ".pcx", ".dds", ".exr", ".qoi", ".dcm",
    ".fits", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".npy",
}  # fmt: skip
"""Endings of pictures that are not read; those that are read after all (arrays, HEIC) are looked for first."""
# Left behind by operating systems, network disks and programs; hidden ones (.thumbnails, .AppleDouble,
# .ipynb_checkpoints) need not be named.
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
_JUNK_FOLDERS = frozenset(
    {
        "__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot",
        "$recycle.bin", "system volume information", "lost+found", "lost.dir", "found.000", "__pycache__",
    }
)  # fmt: skip
_THUMBNAIL = ("synophoto_thumb_", "synofile_thumb_")


def list_images(folder: str | Path, suffixes: Collection[str] = IMAGE_SUFFIXES, scan: Scan | None = None) -> list[str]:
    """Every image at any depth below a folder, in natural order (``2.jpg`` before ``10.jpg``).

    Hidden files, thumbnails, recycle bins and what else is left behind by programs are skipped and counted; pictures in
    formats that are not read, such as HEIC, are skipped with one warning.

    Args:
        folder: Where to look.
        suffixes: Endings of the files that are images, in lower case.
        scan: What counts along, and warns in the end; None for one of its own.
    """
    if scan is None:
        with Scan(folder) as scan:
            return list_images(folder, suffixes, scan)
    images = []
    below = len(os.path.join(folder, ""))
    for path in walk_files(folder, scan=scan):
        suffix = path[path.rfind(".") :].lower()
        if suffix in suffixes:
            images.append(path)
        elif suffix in UNREAD_SUFFIXES:
            scan.unread.append(path)
        elif not os.path.splitext(path)[1] and has_image_signature(path):
            images.append(path)
    return sorted(images, key=lambda path: natural_key(path[below:]))


def is_image(name: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a file's ending is that of an image and the file is not hidden."""
    return os.path.splitext(name)[1].lower() in suffixes and not is_skipped(os.path.basename(name))


def is_image_file(path: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Whether a file is not hidden and has the ending of an image, or no ending and the first bytes of one."""
    name = os.path.basename(path)
    return is_image(name, suffixes) or (
        not os.path.splitext(name)[1] and not is_skipped(name) and has_image_signature(path)
    )


def is_skipped(name: str) -> bool:
    """Whether a walk leaves a file or folder of this name out; ``.`` and ``..`` are no names."""
    lower = name.lower()
    return (
        (name[:1] == "." and name not in (os.curdir, os.pardir))
        or lower in _JUNK_FOLDERS
        or lower in _JUNK_FILES
        or lower.startswith(_THUMBNAIL)
    )


def visible_entries(folder: str | Path, scan: Scan | None = None) -> list[os.DirEntry[str]]:
    """A folder's entries by name, without hidden ones and what operating systems leave behind.

    Args:
        folder: Where to look.
        scan: What counts the images that are left out.

    Raises:
        UserError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(error) from error
    visible = [entry for entry in found if not is_skipped(entry.name)]
    if scan is not None and len(visible) < len(found):
        for entry in found:
            if is_skipped(entry.name):
                _note_skipped(entry, scan)
    return visible


def visible_folders(folder: str | Path, scan: Scan | None = None) -> list[os.DirEntry[str]]:
    """The folders among :func:`visible_entries`, links to folders included."""
    return [entry for entry in visible_entries(folder, scan) if entry.is_dir()]


def walk_files(
    folder: str | Path,
    on_error: Callable[[OSError], object] | None = None,
    on_revisit: Callable[[str], object] | None = None,
    scan: Scan | None = None,
) -> Iterator[str]:
    """Walks down through links too, but into no folder twice, and not back up into a parent.

    Args:
        folder: Where to begin.
        on_error: Called for a folder that cannot be listed, which is then left out.
        on_revisit: Called with the path of each folder that is left out because it was or will be visited anyway.
        scan: What counts the files, and the images that are left out.

    Yields:
        The path of each file that is not hidden and not left behind by an operating system.

    Raises:
        UserError: If a folder cannot be listed, and there is no ``on_error``.
    """
    real = Path(os.path.realpath(folder))
    seen = {str(real), *map(str, real.parents)}
    waiting = [os.fspath(folder)]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                files, folders = _sort_out(entries, scan)
        except OSError as error:
            if on_error is None:
                raise _unreadable(error) from error
            on_error(error)
            continue
        if scan is not None:
            scan.count(len(files))
        prefix = os.path.join(current, "")
        kept = []
        for name in sorted(folders):
            target = os.path.realpath(prefix + name)
            if target not in seen:
                seen.add(target)
                kept.append(prefix + name)
            elif on_revisit is not None:
                on_revisit(prefix + name)
        waiting += reversed(kept)
        for name in files:
            yield prefix + name


def _sort_out(entries: Iterable[os.DirEntry[str]], scan: Scan | None) -> tuple[list[str], list[str]]:
    """The names of files and of folders, for which most file systems need no look at the file itself."""
    files, folders = [], []
    for entry in entries:
        if is_skipped(entry.name):
            if scan is not None:
                _note_skipped(entry, scan)
        elif _is_folder(entry):
            folders.append(entry.name)
        else:
            files.append(entry.name)
    return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _note_skipped(entry: os.DirEntry[str], scan: Scan) -> None:
    """Counts the images that are left out with an entry; macOS's ``._1.jpg`` holds no picture."""
    if _is_folder(entry):
        images = sum(
            has_image_suffix(name) and not name.startswith("._")
            for _, _, names in os.walk(entry.path)
            for name in names
        )
        if images:
            scan.ignored[entry.name] += images
    elif has_image_suffix(entry.name) and not entry.name.startswith("._"):
        scan.ignored["thumbnails" if entry.name.lower().startswith(_THUMBNAIL) else "hidden files"] += 1


def has_image_suffix(name: str) -> bool:
    """Whether a file is named like an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


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
