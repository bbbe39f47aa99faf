"""Sources with image files: class folders, and a folder of validation images without classes."""

import filecmp
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inceptionnext_lit.data.class_words import is_wnid
from inceptionnext_lit.data.sources.files import has_image_suffix, is_skipped, visible_entries
from inceptionnext_lit.data.sources.imagenet_names import OfficialName, official_name
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.labels import ValLabels
from inceptionnext_lit.prepare.imagenet.source import Part, Split, SplitName, Wanted
from inceptionnext_lit.prepare.imagenet.target import Target
from inceptionnext_lit.wording import count, printable

_THREADS = 8  # that ask for sizes, which a network file system answers slowly


@dataclass(frozen=True)
class Files:
    """The images of a folder.

    Attributes:
        paths: The file of each image, by its official name.
        told: The class of each image whose name tells it.
        is_exact: Whether there is nothing else, and all files have their official names.
    """

    paths: dict[str, str]
    told: dict[str, str]
    is_exact: bool


def list_files(folder: str) -> Files:
    """List the images of a folder, without its subfolders.

    Raises:
        UserError: If it has other images than ImageNet's, or different images under one name.
    """
    paths: dict[str, str] = {}
    told: dict[str, str] = {}
    foreign, is_exact = [], True
    with os.scandir(folder) as entries:
        for entry in entries:
            official = None if is_skipped(entry.name) else official_name(entry.name)
            if official is None or not entry.is_file():
                is_exact = False
                if has_image_suffix(entry.name) and not is_skipped(entry.name):
                    foreign.append(entry.name)
                continue
            is_exact = is_exact and official.name == entry.name and not entry.is_symlink()
            _add(paths, official, entry.path)
            if official.wnid is not None:
                told[official.name] = official.wnid
    if foreign:
        raise UserError(
            f"{folder} has {count(len(foreign), 'image')} that by name {'is' if len(foreign) == 1 else 'are'} not of "
            f"ImageNet, such as {printable(min(foreign))}. Move them elsewhere."
        )
    return Files(paths, told, is_exact)


def _add(paths: dict[str, str], official: OfficialName, path: str) -> None:
    first = paths.setdefault(official.name, path)
    if first != path and not filecmp.cmp(first, path, shallow=False):
        raise UserError(
            f"{first} and {path} are different images of the same name, {official.name}; remove the wrong one."
        )


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders that could be classes; empty if the folder cannot have class folders."""
    return [entry.name for entry in visible_entries(folder) if entry.is_dir()] if folder.is_dir() else []


def open_class_folders(folder: Path, split: SplitName, wanted: Wanted) -> Split:
    """Return the images of a split in class folders.

    Args:
        folder: The folder with one folder for each class.
        split: Which split it is.
        wanted: What to take.

    Raises:
        UserError: If it has other classes or images than ImageNet's.
    """
    names = class_folders(folder)
    wanted.check_known(names, folder)
    counts: dict[str, int | None] = {}
    parts, numbers, checks = [], set(), []
    there = set(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        for wnid in wanted.classes:
            place = os.path.join(folder.absolute(), wnid)
            known = _staged(wanted, split, wnid) | (_list_class(place, wnid).paths if wnid in there else {})
            if wnid in there:
                write = partial(_write_class, place=place, wnid=wnid, split=split, wanted=wanted)
                parts.append(Part(f"{split}/{wnid}", write))
            elif not known:
                continue
            counts[wnid] = len(known)
            numbers |= val_numbers(known)
            chosen = {f"{split}/{wnid}/{name}": known[name] for name in wanted.choose(split, known)}
            checks.append(pool.submit(_empty, chosen))
    empty = [name for check in checks for name in check.result()]
    return Split(parts, counts, frozenset(numbers), tuple(empty))


def _list_class(place: str, wnid: str) -> Files:
    found = list_files(place)
    for name, told in found.told.items():
        if told != wnid:
            raise UserError(f"{found.paths[name]} is an image of the class {told}, by its name; put it in its folder.")
    return found


def _write_class(target: Target, place: str, wnid: str, split: SplitName, wanted: Wanted) -> None:
    if not os.path.isdir(place):  # moved as a whole
        return
    found = _list_class(place, wnid)
    folder = f"{split}/{wnid}"
    chosen = wanted.choose(split, found.paths.keys() | set(target.names(folder) if wanted.mode == "move" else ()))
    if found.is_exact and len(chosen) == len(found.paths) and target.put_folder(folder, place):
        return
    for name in chosen:
        if name in found.paths:
            target.put_file(f"{folder}/{name}", found.paths[name])


def open_flat_val(folder: Path, labels: Callable[[], ValLabels | None], wanted: Wanted) -> Split:
    """Return the validation images of a folder without classes.

    Args:
        folder: The folder.
        labels: Reads their classes; called if the names do not tell them.
        wanted: What to take.

    Raises:
        UserError: If their classes are not known, or the images are not ImageNet's.
    """
    found = list_files(str(folder.absolute()))
    classes = dict(found.told)
    if unclear := found.paths.keys() - classes.keys():
        classes |= labeled(unclear, labels(), folder)
    wanted.check_known(set(classes.values()), folder)
    takes = set(wanted.classes)
    chosen = {name: wnid for name, wnid in classes.items() if wnid in takes}
    counts: Counter[str] = Counter(chosen.values())
    numbers = set(val_numbers(classes))
    paths = {f"val/{name}": found.paths[name] for name in chosen}
    for wnid in wanted.classes if wanted.mode == "move" else ():
        moved = {name: path for name, path in _staged(wanted, "val", wnid).items() if name not in chosen}
        if moved:
            counts[wnid] += len(moved)
            numbers |= val_numbers(moved)
            paths |= {f"val/{wnid}/{name}": path for name, path in moved.items()}

    def write(target: Target) -> None:
        for name, wnid in chosen.items():
            if os.path.lexists(found.paths[name]) or wanted.mode != "move":
                target.put_file(f"val/{wnid}/{name}", found.paths[name])

    return Split([Part("val", write)], dict(counts), frozenset(numbers), tuple(_empty(paths)))


def _empty(paths: dict[str, str]) -> list[str]:
    """Return the names of the images that are empty files, or links to nothing."""
    empty = []
    for name, path in paths.items():
        try:
            if os.stat(path).st_size == 0:
                empty.append(name)
        except FileNotFoundError:
            empty.append(name)
    return empty


def labeled(names: set[str], labels: ValLabels | None, place: Path) -> dict[str, str]:
    """Return the classes of validation images.

    Args:
        names: Their official names.
        labels: The file of labels; None if there is none.
        place: Where the images are, for messages.

    Raises:
        UserError: If there are no labels, or not for all images.
    """
    if labels is None:
        raise UserError(
            f"The validation images in {place} are not in class folders, and no file tells their classes: put "
            "ILSVRC2012_devkit_t12.tar.gz of image-net.org, or Kaggle's LOC_val_solution.csv, next to them."
        )
    classes = {name: labels.classes.get(os.path.splitext(name)[0]) for name in names}
    if unknown := sorted(name for name, wnid in classes.items() if wnid is None):
        raise UserError(
            f"{labels.file} has no class for {count(len(unknown), 'image')} of {place}, such as {unknown[0]}; it "
            "belongs to other images."
        )
    return {name: wnid for name, wnid in classes.items() if wnid is not None}


def val_numbers(names: Iterable[str]) -> set[int]:
    """Return the numbers of the validation images among some official names."""
    return {int(name[-13:-5]) for name in names if name.startswith("ILSVRC2012_val_")}


def _staged(wanted: Wanted, split: SplitName, wnid: str) -> dict[str, str]:
    """Return the file of each image that an earlier run has moved, by its official name."""
    if wanted.mode != "move" or not is_wnid(wnid):
        return {}
    folder = f"{split}/{wnid}"
    names = Target(wanted.staged, wanted.mode).names(folder)
    return {name: os.path.join(wanted.staged, folder, name) for name in names}
