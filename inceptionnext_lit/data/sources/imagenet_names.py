"""The names of ImageNet's files: archives, shards, and images, whose official names some distributions vary."""

import os
import re
from typing import NamedTuple

from inceptionnext_lit.data.sources.files import is_skipped

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
CLASS_TAR = re.compile(r"n\d{8}\.tar")
OF_KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")
"""Where the folders of the splits are in what Kaggle has, and in parts of it."""
SHARD = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]+)?\.parquet")
"""A file of Hugging Face, with its split, its number and the number of files of the split."""
_STEM = re.compile(r"(?:(?P<train>n\d{8})_\d+|ILSVRC2012_val_\d{8})(?P<added>_n\d{8})?")
_SUFFIXES = (".jpeg", ".jpg")


class OfficialName(NamedTuple):
    """An image's name in the ILSVRC 2012 archives.

    Attributes:
        name: The file name, which ends in ``.JPEG``.
        wnid: The class that the given name told, if it did.
    """

    name: str
    wnid: str | None


def official_name(given: str) -> OfficialName | None:
    """Return the official name of an image file, or None if it is not one of ImageNet's.

    Suffixes may be ``.jpeg`` or ``.jpg`` in any case. Hugging Face appends the class to the stem
    (``n01440764_10026_n01440764.JPEG``, ``ILSVRC2012_val_00000001_n01751748.JPEG``); it is removed.

    Args:
        given: The file name.
    """
    stem, suffix = os.path.splitext(given)
    found = _STEM.fullmatch(stem)
    if found is None or suffix.lower() not in _SUFFIXES:
        return None
    added = found["added"]
    told = {name for name in (found["train"], added and added[1:]) if name}
    if len(told) > 1:
        return None
    return OfficialName(f"{stem.removesuffix(added or '')}.JPEG", told.pop() if told else None)


def is_junk(path: str) -> bool:
    """Return whether an archive's member belongs to an operating system, such as macOS's ``._`` files."""
    return any(is_skipped(part) for part in path.split("/") if part not in ("", ".", ".."))
