"""File names for the masks of images, each once."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_LONGEST = 200  # bytes of a name, of 255, since temporary names are longer


class MaskNames:
    """Name masks after their images, with the images' folders below the one that contains all of them.

    Args:
        paths: The images.
        taken: Names of masks that exist already.
    """

    def __init__(self, paths: Sequence[str], taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}
        whole = [os.path.abspath(path) for path in paths]
        top = _common([os.path.dirname(path) for path in whole])
        below = [PurePath(os.path.relpath(path, top)) for path in whole]
        stems = [str(path.with_suffix(".png")) for path in below]
        counts: dict[str, int] = {}
        for stem in stems:
            counts[stem.casefold()] = counts.get(stem.casefold(), 0) + 1
        self._names: dict[str, str] = {}
        for path, place, stem in zip(paths, below, stems, strict=True):
            if path not in self._names:
                is_single = counts[stem.casefold()] == 1
                self._names[path] = self._free(_shortened(stem if is_single else f"{place}.png"))

    def __getitem__(self, path: str) -> str:
        """Return the name of an image's mask, with forward slashes."""
        return self._names[path].replace(os.sep, "/")

    def _free(self, name: str) -> str:
        base, number = name.removesuffix(".png"), 2
        while name.casefold().replace(os.sep, "/") in self._taken:
            name, number = f"{base}_{number}.png", number + 1
        self._taken.add(name.casefold().replace(os.sep, "/"))
        return name


def _shortened(name: str) -> str:
    """Shorten a file name that the system would refuse with a suffix; a hash keeps it apart from others."""
    folder, base = os.path.split(name)
    encoded = os.fsencode(base)
    if len(encoded) <= _LONGEST:
        return name
    mark = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return os.path.join(folder, f"{encoded[: _LONGEST - 20].decode('utf-8', 'ignore')}_{mark}.png")


def _common(folders: Sequence[str]) -> str:
    try:
        return os.path.commonpath(folders)
    except ValueError:  # of several drives, or none
        return os.curdir
