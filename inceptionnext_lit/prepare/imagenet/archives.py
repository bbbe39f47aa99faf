"""Sources in tar files: the archives of ILSVRC 2012, and those of fast.ai."""

import io
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from inceptionnext_lit.data.sources.imagenet_names import OfficialName, is_junk, official_name
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.folders import labeled, val_numbers
from inceptionnext_lit.prepare.imagenet.labels import ValLabels
from inceptionnext_lit.prepare.imagenet.source import Part, Split, Wanted
from inceptionnext_lit.prepare.imagenet.target import Target
from inceptionnext_lit.wording import first_line, printable


@dataclass(frozen=True)
class ClassArchive:
    """The tar file of one class, which may be inside another.

    Attributes:
        wnid: The class.
        path: The file.
        start: Where it begins in the file, in bytes.
        size: Its size in bytes.
    """

    wnid: str
    path: Path
    start: int
    size: int


def archives_within(path: Path) -> list[ClassArchive]:
    """List the tar files of classes inside the archive of the training images.

    Raises:
        UserError: If the archive is broken or has other content.
    """
    found: dict[str, ClassArchive] = {}
    with reading(path), tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.isfile() or is_junk(member.name):
                continue
            stem, suffix = os.path.splitext(os.path.basename(member.name))
            if suffix != ".tar":
                raise UserError(
                    f"{path} has {printable(member.name)} instead of a tar file for each class; it is not ImageNet's "
                    "archive of training images."
                )
            if stem in found:
                raise UserError(f"{path} has {stem}.tar twice; download it again.")
            found[stem] = ClassArchive(stem, path, member.offset_data, member.size)
    return list(found.values())


def open_class_archives(archives: list[ClassArchive], place: Path, wanted: Wanted) -> Split:
    """Return the training images of the classes' archives.

    Args:
        archives: The archives.
        place: Where they are, for messages.
        wanted: What to take.

    Raises:
        UserError: If there are other classes than ImageNet's.
    """
    wanted.check_known([archive.wnid for archive in archives], place)
    chosen = [archive for archive in archives if archive.wnid in set(wanted.classes)]
    parts = [
        Part(f"train/{archive.wnid}", partial(_write_class, archive=archive, wanted=wanted), archive.size)
        for archive in chosen
    ]
    return Split(parts, dict.fromkeys(archive.wnid for archive in chosen))


def _write_class(target: Target, archive: ClassArchive, wanted: Wanted) -> None:
    folder = f"train/{archive.wnid}"
    with reading(archive.path), archive.path.open("rb") as file:
        if wanted.images is not None:
            names = {official.name for _, official, _ in _members(file, archive)}
            chosen = set(wanted.choose("train", names))
        for member, official, read in _members(file, archive):
            place = f"{folder}/{official.name}"
            if (wanted.images is None or official.name in chosen) and not target.has(place, member.size):
                target.put_bytes(place, read())


def _members(
    file: IO[bytes], archive: ClassArchive
) -> Iterator[tuple[tarfile.TarInfo, OfficialName, Callable[[], bytes]]]:
    window = io.BufferedReader(_Window(file, archive.start, archive.size))
    seen = set()
    with tarfile.open(fileobj=window, mode="r:") as inner:
        for member in inner:
            if not member.isfile() or is_junk(member.name):
                continue
            official = official_name(os.path.basename(member.name))
            if official is None or official.wnid != archive.wnid:
                raise UserError(
                    f"{archive.path} has {printable(member.name)} among the images of {archive.wnid}, to which it does "
                    "not belong; download it again."
                )
            if official.name in seen:
                raise UserError(f"{archive.path} has {official.name} twice; download it again.")
            seen.add(official.name)
            yield member, official, partial(_content, inner, member)


def open_val_archive(path: Path, labels: ValLabels | None, wanted: Wanted) -> Split:
    """Return the validation images of their archive.

    Args:
        path: The archive.
        labels: Their classes.
        wanted: What to take.

    Raises:
        UserError: If the archive is broken, has other content, or the classes are not known.
    """
    sizes: dict[str, int] = {}
    with reading(path), tarfile.open(path, "r:") as archive:
        for member in archive:
            if not member.isfile() or is_junk(member.name):
                continue
            official = official_name(os.path.basename(member.name))
            if official is None:
                raise UserError(f"{path} has {printable(member.name)}, which is not a validation image of ImageNet.")
            if official.name in sizes:
                raise UserError(f"{path} has {official.name} twice; download it again.")
            sizes[official.name] = member.size
    classes = labeled(set(sizes), labels, path)
    wanted.check_known(set(classes.values()), labels.file if labels else path)
    takes = set(wanted.classes)
    chosen = {name: wnid for name, wnid in classes.items() if wnid in takes}
    write = partial(_write_val, path=path, classes=chosen)
    part = Part("val", write, sum(size for name, size in sizes.items() if name in chosen))
    empty = tuple(f"val/{name}" for name in chosen if sizes[name] == 0)
    return Split([part], dict(Counter(chosen.values())), frozenset(val_numbers(classes)), empty)


def _write_val(target: Target, path: Path, classes: dict[str, str]) -> None:
    with reading(path), tarfile.open(path, "r:") as archive:
        for member in archive:
            official = official_name(os.path.basename(member.name))
            if not member.isfile() or is_junk(member.name) or official is None or official.name not in classes:
                continue
            place = f"val/{classes[official.name]}/{official.name}"
            if not target.has(place, member.size):
                target.put_bytes(place, _content(archive, member))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"unexpected end of data in {member.name}")
    return content


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Explain the errors of a damaged archive.

    Raises:
        UserError: If there is one.
    """
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is broken or not completely downloaded ({first_line(error)}); download it again, then give the "
            "same command again."
        ) from error
    except OSError as error:
        if error.filename is not None or error.errno is not None:  # gzip's errors have neither
            raise
        raise UserError(f"{path} is broken ({first_line(error)}); download it again.") from error


class _Window(io.RawIOBase):
    """A part of a file as a file of its own, with its own position.

    Args:
        file: The file; it must not be used by others meanwhile.
        start: Where the part begins, in bytes.
        size: Its size in bytes.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, and return it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        """Read into a buffer, and return the number of bytes."""
        number = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        content = self._file.read(number)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
