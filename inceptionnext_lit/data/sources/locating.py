"""Find the files that a manifest names."""

import os
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from inceptionnext_lit.data.sources.files import is_image
from inceptionnext_lit.errors import UserError

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "photos", "pictures", "jpg", "jpeg", "jpegs", "png"})
_OF_WINDOWS = re.compile(r"[a-z]:[\\/]|\\\\", re.IGNORECASE)


class Locator:
    """Find the files that a manifest names.

    Paths are relative to the manifest's folder. A path that does not exist as written is searched with slashes for
    Windows' backslashes, in other case or Unicode form, with any image suffix if it has none, and in the image folders
    next to the manifest: ``images``, ``imgs``, ``photos`` and similar, and for ``train.csv`` also ``train`` and
    ``train_images``. The match must be unique.

    Args:
        manifest: The manifest.
        suffixes: Suffixes of image files.

    Attributes:
        folders: The folders to search, the manifest's first.
        completed: The first path that was found elsewhere, and its location, if any.
        completions: The number of such paths.
    """

    def __init__(self, manifest: Path, suffixes: Collection[str]) -> None:
        self._suffixes = suffixes
        self._listings: dict[str, _Listing] = {}
        self.folders = [os.path.dirname(manifest), *_image_folders(manifest)]
        self.completed: tuple[str, str] | None = None
        self.completions = 0

    def written(self, path: str) -> str:
        """Return a path exactly as written, relative to the manifest."""
        return os.path.join(self.folders[0], os.path.expanduser(path))

    def locate(self, path: str) -> str | None:
        """Return the file of a path, if any.

        Raises:
            UserError: If several files match.
        """
        literal = self.written(path)
        if os.path.isfile(literal):
            return literal
        plain = path.strip()
        plain = plain if _OF_WINDOWS.match(plain) else plain.replace("\\", "/")
        bases = self.folders[:1] if os.path.isabs(plain) else self.folders
        found = [os.path.join(base, plain) for base in bases if os.path.isfile(os.path.join(base, plain))]
        if not found:
            found = [file for base in bases for file in self._alike(os.path.join(base, plain))]
        if len({os.path.realpath(file) for file in found}) > 1:
            raise UserError(f"{path!r} could be {found[0]} or {found[1]}; write the exact path.")
        if not found:
            return None
        if found[0] != os.path.join(bases[0], plain):
            self.completed = self.completed or (path, found[0])
            self.completions += 1
        return found[0]

    def missing_hint(self, path: str) -> str:
        """Describe where a missing file was searched, as the end of a sentence."""
        if _OF_WINDOWS.match(path.strip()):
            return "Paths of another computer's drives cannot be found; write them relative to the manifest's folder"
        places = ", ".join(folder or os.curdir for folder in self.folders)
        suffix = "" if is_image(path, self._suffixes) else ", with any suffix of an image"
        return f"Paths are relative to the manifest's folder; searched in {places}{suffix}"

    def _alike(self, path: str) -> list[str]:
        folder, name = os.path.split(path)
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder, self._suffixes)
        listing = self._listings[folder]
        names = listing.names.get(_key(name), [])
        if not names and not is_image(name, self._suffixes):
            names = listing.stems.get(_key(name), [])
        return [os.path.join(folder, name) for name in names]


class _Listing:
    """The files of a folder by name, and its images by stem, ignoring case."""

    def __init__(self, folder: str, suffixes: Collection[str]) -> None:
        self.names: dict[str, list[str]] = {}
        self.stems: dict[str, list[str]] = {}
        try:
            with os.scandir(folder or os.curdir) as entries:
                files = sorted(entry.name for entry in entries if entry.is_file())
        except OSError:
            return
        for name in files:
            self.names.setdefault(_key(name), []).append(name)
            if is_image(name, suffixes):
                self.stems.setdefault(_key(os.path.splitext(name)[0]), []).append(name)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _image_folders(manifest: Path) -> list[str]:
    """Return the image folders next to a manifest, by their names, and folders of the same name inside them."""
    stem = _plain(manifest.name.partition(".")[0])
    wanted = {stem} | {joined for name in _IMAGE_FOLDERS for joined in (name, stem + name, name + stem)}
    found = []
    try:
        with os.scandir(manifest.parent) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and _plain(entry.name) in wanted)
    except OSError:
        return []
    folder = os.path.dirname(manifest)
    for name in names:
        found.append(os.path.join(folder, name))
        if os.path.isdir(inner := os.path.join(folder, name, name)):  # as in many unpacked archives
            found.append(inner)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
