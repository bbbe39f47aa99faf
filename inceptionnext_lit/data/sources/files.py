"""List the contents of a folder: its visible folders, and the images at any depth."""

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
"""Suffixes of unsupported pictures, checked after the supported ones, which may include arrays and HEIC."""
# Created by operating systems, network disks and programs; hidden ones (.thumbnails, .AppleDouble,
# .ipynb_checkpoints) need not be listed.
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
_JUNK_FOLDERS = frozenset(
    {
        "__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot",
        "$recycle.bin", "system volume information", "lost+found", "lost.dir", "found.000", "__pycache__",
    }
)  # fmt: skip
_THUMBNAIL = ("synophoto_thumb_", "synofile_thumb_")


def list_images(folder: str | Path, suffixes: Collection[str] = IMAGE_SUFFIXES, scan: Scan | None = None) -> list[str]:
    """List all images at any depth below a folder, in natural order (``2.jpg`` before ``10.jpg``).

    Hidden files, thumbnails, recycle bins and similar files are skipped and counted; pictures in unsupported formats,
    such as HEIC, are skipped with one warning.

    Args:
        folder: The folder.
        suffixes: Suffixes of image files, in lower case.
        scan: Counts the files, and warns at the end; None creates one.
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
    """Return whether a file has the suffix of an image and is not hidden."""
    return os.path.splitext(name)[1].lower() in suffixes and not is_skipped(os.path.basename(name))


def is_image_file(path: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> bool:
    """Return whether a file is not hidden and has the suffix of an image, or no suffix and an image's first bytes."""
    name = os.path.basename(path)
    return is_image(name, suffixes) or (
        not os.path.splitext(name)[1] and not is_skipped(name) and has_image_signature(path)
    )


def is_skipped(name: str) -> bool:
    """Return whether scans skip a file or folder of this name, except ``.`` and ``..``."""
    lower = name.lower()
    return (
        (name[:1] == "." and name not in (os.curdir, os.pardir))
        or lower in _JUNK_FOLDERS
        or lower in _JUNK_FILES
        or lower.startswith(_THUMBNAIL)
    )


def visible_entries(folder: str | Path, scan: Scan | None = None) -> list[os.DirEntry[str]]:
    """Return a folder's entries sorted by name, without hidden ones and files of operating systems.

    Args:
        folder: The folder.
        scan: Counts the skipped images.

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
    """Return the folders among :func:`visible_entries`, including links to folders."""
    return [entry for entry in visible_entries(folder, scan) if entry.is_dir()]


def walk_files(
    folder: str | Path,
    on_error: Callable[[OSError], object] | None = None,
    on_revisit: Callable[[str], object] | None = None,
    scan: Scan | None = None,
) -> Iterator[str]:
    """Walk a folder, following links, but visiting each folder once and never a parent.

    Args:
        folder: Where to begin.
        on_error: Called for a folder that cannot be listed, which is then skipped.
        on_revisit: Called with the path of each folder that is skipped because it is visited under another path.
        scan: Counts the files, and the skipped images.

    Yields:
        The path of each file that is not hidden and does not belong to an operating system.

    Raises:
        UserError: If a folder cannot be listed, and ``on_error`` is not given.
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
    """Return the names of files and of folders; most file systems tell them apart without a stat call."""
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
    except OSError:  # a circular link
        return False


def _note_skipped(entry: os.DirEntry[str], scan: Scan) -> None:
    """Count the images skipped with an entry; macOS's ``._1.jpg`` is not a picture."""
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
    """Return whether a file is named like an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"Cannot list the folder {error.filename}: {error.strerror}. Check that it exists and may be read."
    )


def natural_key(path: str) -> tuple[str, str]:
    """Return a key that sorts ``2.jpg`` before ``10.jpg`` and keeps a folder's content together.

    It consists of strings only, since the keys of a million paths take most of the memory.
    """
    numbered = _NUMBER.sub(_by_length, path.casefold())
    return numbered.replace(os.sep, "\0"), path


def _by_length(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\1{len(digits):03}{digits}"


_NUMBER = re.compile(r"[0-9]+")
