"""Find out in which layout a source has ImageNet."""

import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from inceptionnext_lit.data.sources.files import has_image_suffix, visible_entries
from inceptionnext_lit.data.sources.folder import unwrap
from inceptionnext_lit.data.sources.imagenet_names import CLASS_TAR, OF_KAGGLE, TRAIN_TAR, VAL_TAR
from inceptionnext_lit.data.sources.split_names import split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.archives import (
    ClassArchive,
    archives_within,
    open_class_archives,
    open_val_archive,
)
from inceptionnext_lit.prepare.imagenet.fastai import SUFFIXES, open_fastai_archive
from inceptionnext_lit.prepare.imagenet.folders import class_folders, open_class_folders, open_flat_val
from inceptionnext_lit.prepare.imagenet.labels import CSV, DEVKIT, ValLabels, find_labels
from inceptionnext_lit.prepare.imagenet.parquet import find_shards, open_parquet
from inceptionnext_lit.prepare.imagenet.source import Source, Split, SplitName, Wanted
from inceptionnext_lit.wording import listed

_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp", ".!qb", ".!ut", ".opdownload")
_LAYOUTS = (
    f"the tar files of ILSVRC 2012 ({TRAIN_TAR}, {VAL_TAR}, {DEVKIT}.tar.gz), Kaggle's ILSVRC/ with {CSV}, train/ in "
    "class folders with val/, or Hugging Face's Parquet files"
)


def open_source(path: Path, wanted: Wanted) -> Source:
    """Return what a source has.

    Args:
        path: What was downloaded: a folder, or one of its files.
        wanted: What to take.

    Raises:
        UserError: If it is not ImageNet in a known layout, or parts of it are missing.
    """
    if not path.exists():
        raise UserError(f"The source {path} does not exist; name the folder with the downloaded files with --source.")
    fastai = wanted.variant.from_imagenet is not None
    if path.is_file():
        if path.name.endswith(SUFFIXES) and fastai and not path.name.startswith("ILSVRC"):
            return _without_move(open_fastai_archive(path, wanted), wanted)
        path = _folder_of(path)
    root = _image_root(path)
    if fastai and (archive := _fastai_archive(path, wanted.variant.name)) is not None:
        return _without_move(open_fastai_archive(archive, wanted), wanted)
    folders = _split_folders(root)
    if not folders and not (path / TRAIN_TAR).is_file() and (shards := find_shards(path)):
        return _without_move(open_parquet(path, shards, wanted), wanted)
    labels = cache(partial(find_labels, list(dict.fromkeys([path, root, *list(path.absolute().parents)[:3]]))))
    train, from_tar = _open_train(path, folders, wanted)
    val, val_from_tar = _open_val(path, folders, labels, wanted)
    in_archives = from_tar or val_from_tar
    source = Source(
        f"{'the tar files of ILSVRC 2012' if in_archives else 'the folder'} {path.absolute()}",
        train,
        val,
        extras=_noisy_labels(root),
        train_counts=partial(_train_counts, root, labels),
        has_files=not in_archives,
    )
    return _without_move(source, wanted)


def _without_move(source: Source, wanted: Wanted) -> Source:
    if wanted.mode == "move" and not source.has_files:
        raise UserError(
            f"--mode move is for folders of images, and the source is {source.described}: its images are written as "
            "files of their own in the other modes; delete the archives afterwards."
        )
    return source


def _folder_of(path: Path) -> Path:
    """Return the folder of a file that belongs to a source."""
    if path.suffix == ".zip" or (path.name.endswith(SUFFIXES) and not path.name.startswith(DEVKIT)):
        how = f"unzip {path} -d FOLDER" if path.suffix == ".zip" else f"tar -xf {path} -C FOLDER"
        raise UserError(f"{path} must be unpacked first: {how}. Then give that folder with --source.")
    if path.name in (TRAIN_TAR, VAL_TAR, CSV) or path.name.startswith(DEVKIT) or path.suffix == ".parquet":
        return path.parent
    raise UserError(f"{path} is not a file of ImageNet; give {_LAYOUTS}, or their folder, with --source.")


def _image_root(path: Path) -> Path:
    """Return the folder with the folders of the splits."""
    for below in OF_KAGGLE:
        if (path / below).is_dir():
            return path / below
    return unwrap(path)


def _split_folders(root: Path) -> dict[SplitName, Path]:
    found: dict[SplitName, Path] = {}
    for entry in visible_entries(root):
        split = split_named(entry.name) if entry.is_dir() else None
        if (split == "train" or split == "val") and (split not in found or entry.name == split):
            found[split] = Path(entry.path)
    return found


def _open_train(path: Path, folders: dict[SplitName, Path], wanted: Wanted) -> tuple[Split, bool]:
    """Return the training split, and whether it is in tar files."""
    if (path / TRAIN_TAR).is_file():
        return open_class_archives(archives_within(path / TRAIN_TAR), path / TRAIN_TAR, wanted), True
    for folder in (path, folders.get("train")):
        if folder is not None and (archives := _class_archives(folder)):
            return open_class_archives(archives, folder, wanted), True
    train = folders.get("train")
    if train is None:
        raise _missing(path, "training", TRAIN_TAR)
    if not class_folders(train) and not (wanted.mode == "move" and (wanted.staged / "train").is_dir()):
        raise UserError(f"{train} has no class folders such as n01440764; give {_LAYOUTS}, with --source.")
    return open_class_folders(train, "train", wanted), False


def _open_val(
    path: Path, folders: dict[SplitName, Path], labels: Callable[[], ValLabels | None], wanted: Wanted
) -> tuple[Split, bool]:
    """Return the validation split, and whether it is in a tar file."""
    if (path / VAL_TAR).is_file():
        return open_val_archive(path / VAL_TAR, labels(), wanted), True
    val = folders.get("val")
    if val is None:
        raise _missing(path, "validation", VAL_TAR)
    if class_folders(val):
        if loose := [entry.name for entry in visible_entries(val) if has_image_suffix(entry.name)]:
            raise UserError(
                f"{val} has class folders and {len(loose):,} images next to them, such as {loose[0]}; sorting was not "
                "finished. Move the images out of the class folders again, or the others into them."
            )
        return open_class_folders(val, "val", wanted), False
    return open_flat_val(val, labels, wanted), False


def _class_archives(folder: Path) -> list[ClassArchive]:
    files = [entry for entry in visible_entries(folder) if CLASS_TAR.fullmatch(entry.name) and entry.is_file()]
    return [ClassArchive(entry.name[:9], Path(entry.path), 0, entry.stat().st_size) for entry in files]


def _missing(path: Path, split: str, archive: str) -> UserError:
    names = [entry.name for entry in visible_entries(path)]
    unfinished = [name for name in names if name.startswith("ILSVRC2012") and name.lower().endswith(_UNFINISHED)]
    if unfinished:
        return UserError(f"{path} has {unfinished[0]}, an unfinished download; finish it first.")
    if {TRAIN_TAR, VAL_TAR} & set(names):
        return UserError(f"{path} has no {archive} with the {split} images; download it from image-net.org too.")
    found = f"it has {listed(names)}" if names else "it is empty"
    return UserError(f"{path} has no {split} images of ImageNet ({found}). Give {_LAYOUTS}, with --source.")


def _fastai_archive(path: Path, name: str) -> Path | None:
    found = [
        Path(entry.path)
        for entry in visible_entries(path)
        if entry.is_file() and entry.name.startswith(name) and entry.name.endswith(SUFFIXES)
    ]
    if len(found) > 1:
        raise UserError(f"{path} has {found[0].name} and {found[1].name}; name one of them with --source.")
    return found[0] if found else None


def _noisy_labels(root: Path) -> dict[str, Path]:
    return {
        entry.name: Path(entry.path) for entry in visible_entries(root) if re.fullmatch(r"noisy_\w+\.csv", entry.name)
    }


def _train_counts(root: Path, labels: Callable[[], ValLabels | None]) -> dict[str, int]:
    """Return the training images of each class by Kaggle's list of them, or by the devkit."""
    file = Path(os.path.abspath(root)).parents[1] / "ImageSets" / "CLS-LOC" / "train_cls.txt"
    if file.is_file():  # rows such as n01440764/n01440764_10026 1
        return Counter(line.partition("/")[0] for line in file.read_text(encoding="utf-8").splitlines())
    found = labels()
    return (found.train_counts or {}) if found is not None else {}
