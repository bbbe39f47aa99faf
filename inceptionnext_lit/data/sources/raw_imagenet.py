"""Recognize ImageNet as it is distributed, before class folders are made of it."""

import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from inceptionnext_lit.data.class_words import is_wnid
from inceptionnext_lit.data.sources.files import is_skipped
from inceptionnext_lit.data.sources.imagenet_names import (
    CLASS_TAR,
    OF_KAGGLE,
    SHARD,
    TRAIN_TAR,
    VAL_TAR,
    official_name,
)
from inceptionnext_lit.data.sources.split_names import split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.program import exact_name
from inceptionnext_lit.wording import printable

_FASTAI = re.compile(r"(?P<name>imagenette|imagewoof)[\w-]*\.tgz")
_OF_HUGGING_FACE = {"train": 294, "validation": 14}  # shards of ILSVRC/imagenet-1k
_TARS, _PARQUET = "in tar files", "in Hugging Face's Parquet files"
_SEEN = 100  # entries of a folder that are looked at


def refuse_raw_imagenet(root: Path) -> None:
    """Stop on ImageNet as it is distributed; only the names of a few files are looked at.

    Args:
        root: A data folder or a file.

    Raises:
        UserError: If it is ImageNet as tar files, Kaggle's folders, with validation images without classes, or in
            Parquet; the message has the command that prepares it.
    """
    name, what = "imagenet", _raw_layout(root)
    if (found := _FASTAI.fullmatch(root.name)) and root.is_file():
        name, what = found["name"], "in an archive of fast.ai"
    if what is None:
        return
    output = next(folder for folder in _free_names(name) if not os.path.lexists(folder))
    command = f"{exact_name()} prepare {name} --source {shlex.quote(str(root))} --output {output}"
    raise UserError(
        f"{printable(str(root))} has ImageNet as it is distributed, {what}, and not in class folders. First run: "
        f"{command} and then use {output} instead."
    )


def _raw_layout(root: Path) -> str | None:
    """Return a description of a raw layout, or None."""
    if root.is_file():
        if root.name in (TRAIN_TAR, VAL_TAR):
            return _TARS
        return _PARQUET if _is_shard(root) else None
    if not root.is_dir():
        return None
    try:
        with os.scandir(root) as entries:
            visible = [(entry.name, entry.is_dir()) for entry in entries if not is_skipped(entry.name)]
    except OSError:  # the scan reports it
        return None
    files = [name for name, is_folder in visible if not is_folder]
    folders = [name for name, is_folder in visible if is_folder]
    train = _first(root, folders, "train")
    if train is None:
        if {TRAIN_TAR, VAL_TAR} & set(files) or any(map(CLASS_TAR.fullmatch, files)):
            return _TARS
        if any((root / below / "train").is_dir() for below in OF_KAGGLE):
            return "in Kaggle's folders"
        return _PARQUET if _has_shards(root, folders) else None
    if any(CLASS_TAR.fullmatch(name) for name in _names(train)):
        return _TARS
    val = _first(root, folders, "val")
    is_flat = val is not None and (names := list(_names(val))) and all(map(_is_val_image, names))
    if is_flat and any(map(is_wnid, _names(train))):
        return "with the validation images in one folder"
    return None


def _first(root: Path, folders: list[str], split: str) -> Path | None:
    found = [name for name in folders if split_named(name) == split]
    return root / (split if split in found else found[0]) if found else None


def _names(folder: Path) -> Iterator[str]:
    """Yield the names of the first visible entries of a folder."""
    try:
        with os.scandir(folder) as entries:
            yield from islice((entry.name for entry in entries if not is_skipped(entry.name)), _SEEN)
    except OSError:
        return


def _is_val_image(name: str) -> bool:
    official = official_name(name)
    return official is not None and official.name.startswith("ILSVRC2012_val_")


def _has_shards(root: Path, folders: list[str]) -> bool:
    """Return whether there is nothing but shards, as in a download of ILSVRC/imagenet-1k or the hub's cache."""
    if set(folders) <= {"data"}:
        places = [root, root / "data"]
    elif {"blobs", "snapshots"} <= set(folders):
        places = [root / "snapshots" / name / "data" for name in _names(root / "snapshots")]
    else:
        return False
    shards = (place / name for place in places for name in _names(place) if SHARD.fullmatch(name))
    first = next(shards, None)
    return first is not None and _is_shard(first)


def _is_shard(path: Path) -> bool:
    """Return whether a file is a shard of ImageNet: by the number of shards, or by the names of its images."""
    found = SHARD.fullmatch(path.name)
    if found is None:
        return False
    if _OF_HUGGING_FACE.get(found["split"]) == int(found["total"]):
        return True
    if importlib.util.find_spec("pyarrow") is None:
        return False
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            images = file.read_row_group(0, columns=["image.path"])["image"].slice(0, 1).to_pylist()
        official = official_name(os.path.basename(images[0]["path"]))
    except (ArrowException, OSError, LookupError, TypeError, ValueError):  # another file
        return False
    return official is not None and official.wnid is not None


def _free_names(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
