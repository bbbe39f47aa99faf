"""Unpack archives; an interrupted unpacking is repeated, and the archive itself is never changed."""

import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.layout import Archive, Layout
from inceptionnext_lit.safe_save import replacing
from inceptionnext_lit.wording import first_line

BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
_TAR = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


def is_archive(path: str | Path) -> bool:
    """Return whether a file is named like an archive."""
    return str(path).lower().endswith((*_TAR, ".zip"))


def check_sum(path: Path, archive: Archive) -> None:
    """Compare a file with its checksum.

    Args:
        path: The file.
        archive: What it should be.

    Raises:
        UserError: If it differs.
    """
    from torchvision.datasets.utils import check_integrity

    if archive.md5 is not None and not check_integrity(str(path), archive.md5):
        raise UserError(f"{path} is incomplete or another version (its MD5 is not {archive.md5}); download it again.")


def unpack(path: Path, archive: Archive, root: Path) -> None:
    """Unpack an archive once; a marker file shows that it is complete, and which file it was.

    Args:
        path: The archive.
        archive: What it should be.
        root: The folder that ``archive.into`` is relative to.

    Raises:
        UserError: If it differs from its checksum, or is broken.
    """
    marker = root / f".{archive.name}.unpacked"
    if _is_marked(marker, path):
        return
    check_sum(path, archive)
    into = root / archive.into
    into.mkdir(parents=True, exist_ok=True)
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as bundle:
                bundle.extractall(into)
        else:
            with tarfile.open(path) as bundle:
                bundle.extractall(into, filter="data")
    except BROKEN as error:
        raise _broken(path, error) from error
    _mark(marker, path)


def gunzip(path: Path, target: Path) -> None:
    """Decompress a file in pieces, unless that is done already.

    Args:
        path: The file, which ends in ``.gz``.
        target: Where to write the content.

    Raises:
        UserError: If the file is broken.
    """
    marker = target.with_name(f".{target.name}.unpacked")
    if target.exists() and _is_marked(marker, path):
        return
    try:
        with replacing(target) as partial, gzip.open(path, "rb") as source, partial.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)
    except BROKEN as error:
        raise _broken(path, error) from error
    _mark(marker, path)


def clear_unfinished(folder: Path, layout: Layout) -> None:
    """Remove what an interrupted download has unpacked, since torchvision would take it for complete.

    Args:
        folder: The root of torchvision's class.
        layout: The data set's layout; its downloads stay.
    """
    kept = {f"{item}.gz" for item in layout.tree} | ({*layout.tree} if not layout.archives else set())
    for archives in layout.archives:
        kept.update(name for archive in archives for name in (archive.name, *archive.other_names))
    for current, folders, files in os.walk(folder, topdown=False):
        for name in files:
            if name not in kept:
                os.unlink(os.path.join(current, name))
        for name in folders:
            place = os.path.join(current, name)
            if os.path.islink(place):
                os.unlink(place)
            elif not os.listdir(place):
                os.rmdir(place)


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _is_marked(marker: Path, path: Path) -> bool:
    return marker.is_file() and marker.read_text(encoding="utf-8") == _identity(path)


def _mark(marker: Path, path: Path) -> None:
    marker.write_text(_identity(path), encoding="utf-8")


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"The archive {path} is broken ({first_line(error)}); download it again.")
