"""Imagenette and Imagewoof as fast.ai ships them: a compressed tar file with train/, val/ and noisy labels."""

import contextlib
import errno
import gzip
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path

from inceptionnext_lit.data.sources.imagenet_names import is_junk, official_name
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.archives import reading
from inceptionnext_lit.prepare.imagenet.folders import val_numbers
from inceptionnext_lit.prepare.imagenet.source import Part, Source, Split, Wanted
from inceptionnext_lit.prepare.imagenet.target import Target
from inceptionnext_lit.wording import first_line, printable

SUFFIXES = (".tgz", ".tar.gz")
_ADDRESS = "https://s3.amazonaws.com/fast-ai-imageclas"
_BLOCK = 2**20


def download(name: str, folder: Path) -> Path:
    """Download the archive of full-size images, unless that is done already.

    Args:
        name: ``imagenette`` or ``imagewoof``.
        folder: Where to put it.

    Returns:
        The archive.

    Raises:
        UserError: If it cannot be downloaded.
    """
    address = f"{_ADDRESS}/{name}2.tgz"
    archive = folder / f"{name}2.tgz"
    if archive.is_file():
        return archive
    from torchvision.datasets import Imagenette
    from torchvision.datasets.utils import download_url

    unfinished = archive.with_name(f"{archive.name}.partial")
    unfinished.unlink(missing_ok=True)  # torchvision would take it for complete
    sums = dict(Imagenette._ARCHIVES.values())
    try:
        download_url(address, folder, unfinished.name, sums.get(address))
    except (RuntimeError, HTTPException, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        with contextlib.suppress(OSError):  # if there is nothing in it
            folder.rmdir()
        raise UserError(
            f"{address} could not be downloaded ({first_line(error)}); give the same command again, or download it in "
            "another way and name it with --source."
        ) from error
    unfinished.rename(archive)
    return archive


def open_fastai_archive(path: Path, wanted: Wanted) -> Source:
    """Return what an archive contains; it is read once to list it.

    Args:
        path: The archive.
        wanted: What to take.

    Raises:
        UserError: If it is broken, or not such an archive.
    """
    images: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}}
    for _, member, place in _members(path):
        if place is not None:
            split, wnid, name = place
            images[split].setdefault(wnid, []).append(name)
            if member.size == 0:
                raise UserError(f"{path} has the empty file {printable(member.name)}; download it again.")
    if not images["train"] or not images["val"]:
        raise UserError(
            f"{path} has no images in train/ and val/, in folders named by classes; give {wanted.variant.name}2.tgz of "
            "fast.ai."
        )
    wanted.check_known([wnid for split in images.values() for wnid in split], path)
    takes = set(wanted.classes)
    chosen: dict[str, set[str]] = {"train": set(), "val": set()}
    counts: dict[str, dict[str, int | None]] = {"train": {}, "val": {}}
    for split in ("train", "val"):
        for wnid, names in images[split].items():
            if wnid in takes:
                counts[split][wnid] = len(set(names))
                chosen[split] |= set(wanted.choose("train" if split == "train" else "val", set(names)))
    part = Part(path.name, partial(_write, path=path, chosen=chosen, classes=takes), path.stat().st_size)
    numbers = val_numbers({name for names in images["val"].values() for name in names})
    return Source(
        f"fast.ai's archive {path.absolute()}",
        Split([part], counts["train"]),
        Split([], counts["val"], frozenset(numbers)),
    )


def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, tuple[str, str, str] | None]]:
    """Yield the files of the archive; with their split, class and official name if they are images."""
    with reading(path), gzip.open(path) as content, tarfile.open(fileobj=content, mode="r|") as archive:
        for member in archive:
            if not member.isfile() or is_junk(member.name):
                continue
            parts = member.name.split("/")
            official = official_name(parts[-1])
            if official is not None and len(parts) >= 3 and parts[-3] in ("train", "val"):
                if official.wnid not in (None, parts[-2]):
                    raise UserError(f"{path} has {printable(member.name)}, an image of the class {official.wnid}.")
                yield archive, member, (parts[-3], parts[-2], official.name)
            elif parts[-1].startswith("noisy_") and parts[-1].endswith(".csv"):
                yield archive, member, None
        while content.read(_BLOCK):  # to the end, where the checksum is
            pass


def _write(target: Target, path: Path, chosen: dict[str, set[str]], classes: set[str]) -> None:
    for archive, member, place in _members(path):
        if place is None:
            where = os.path.basename(member.name)
        elif place[2] in chosen[place[0]] and place[1] in classes:
            where = "/".join(place)
        else:
            continue
        if not target.has(where, member.size):
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            if len(content) != member.size:
                raise UserError(f"{path} ends within {printable(member.name)}; download it again.")
            target.put_bytes(where, content)
