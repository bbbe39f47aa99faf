"""List the images of a folder by split and class, with findings for what would stop fit."""

import os
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.files import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    is_image_file,
    natural_key,
    visible_entries,
    visible_folders,
    walk_files,
)
from inceptionnext_lit.data.sources.folder import find_layout, unwrap
from inceptionnext_lit.data.sources.manifest import read_manifest
from inceptionnext_lit.data.sources.scan import Scan, describe_ignored
from inceptionnext_lit.data.sources.split_names import SplitName, split_named
from inceptionnext_lit.doctor.findings import Finding, below
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count, listed, printable

WHOLE = "all"
"""Name of the only split in a folder without splits."""
NO_LABEL = ""
NO_SPLIT = ""
_SUFFIXES = IMAGE_SUFFIXES | {".npy"}


@dataclass(frozen=True, slots=True)
class Item:
    """An image to examine.

    Attributes:
        path: The file.
        split: Name of its split; empty if it is next to the splits.
        label: Name of its class; empty if it has none.
    """

    path: str
    split: str
    label: str


@dataclass
class Listing:
    """What to examine.

    Attributes:
        root: The folder.
        items: The images, ordered by split and class.
        classes: Names of the class folders of each split, including empty ones.
        findings: Findings from the names and locations of the files.
        scan: Counter of files, including ignored ones.
    """

    root: Path
    items: list[Item] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    scan: Scan = field(init=False)

    def __post_init__(self) -> None:
        """Start with an empty scan."""
        self.scan = Scan(self.root)

    def add(self, kind: str, message: str, *paths: str) -> None:
        """Add a finding, with paths relative to the folder."""
        self.findings.append(Finding(kind, message, tuple(below(path, self.root) for path in paths)))


def list_manifest(path: Path, columns: ColumnNames) -> Listing:
    """List the images of a manifest; a combination of several labels counts as one class.

    Args:
        path: The table.
        columns: Names of its columns, if they are not the usual ones.

    Raises:
        UserError: As for :func:`read_manifest`.
    """
    listing = Listing(path.parent)
    manifest = read_manifest(path, multi_label=None, columns=columns)
    joined = {labels: "|".join(labels) for labels in dict.fromkeys(manifest.labels)}
    splits = manifest.splits or repeat(WHOLE)
    classes: dict[str, dict[str, None]] = {}
    for image, labels, split in zip(manifest.paths, manifest.labels, splits, strict=False):
        listing.items.append(Item(image, split, joined[labels]))
        classes.setdefault(split, {})[joined[labels]] = None
    listing.classes = {split: list(names) for split, names in classes.items()}
    for note in manifest.notes:
        listing.add("manifest", note)
    return listing


def list_folder(root: Path) -> Listing:
    """List the images of a folder, with or without splits and classes.

    Raises:
        UserError: If the folder does not exist, cannot be listed, or has no images.
    """
    root = unwrap(root) if root.is_dir() else root
    listing = Listing(root)
    with listing.scan as scan:
        folders = [entry.name for entry in visible_folders(root)] if root.is_dir() else []
        try:
            layout = find_layout(root)
            places = [place for place in (layout.train, layout.val, layout.test) if place is not None]
            splits = {below(place, root): place for place in places} if layout.has_splits else {WHOLE: root}
        except UserError:
            if not root.is_dir():
                raise
            splits = _unclear_splits(listing, folders)
        for name, place in splits.items():
            _list_split(listing, name, place, leave_out=set(splits) if place == root else set())
        if root not in splits.values():
            if not any(is_training(name) for name in splits):
                listing.add("no_train", f"No train/ folder next to {listed(list(splits))}.")
            used = {Path(name).parts[0] for name in splits}
            _list_rest(listing, [name for name in folders if name not in used])
            visible_entries(root, scan)
            _add_loose(listing, root, NO_SPLIT, "the splits")
    if ignored := describe_ignored(scan.ignored):
        listing.add("ignored", f"{ignored}.")
    if not listing.items:
        raise UserError(
            f"{printable(str(root))} has no images to examine. Give a folder with images in it, or lay "
            "them out as FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg."
        )
    return listing


def _unclear_splits(listing: Listing, folders: list[str]) -> dict[str, Path]:
    """Return the possible splits if the folder names are ambiguous, and add a finding."""
    names = [name for name in folders if split_named(name)]
    for split, word in {"train": "training", "val": "validation", "test": "test"}.items():
        alike = [name for name in names if split_named(name) == split]
        if len(alike) > 1:
            message = f"{listed(alike)} could each be the {word} split, but only one can be."
            listing.add("layout", message, *(str(listing.root / name) for name in alike))
            return {name: listing.root / name for name in names}
    names = [name for name in names if split_named(name) != "train"]  # train is then the name of a class
    others = [name for name in folders if name not in names]
    message = f"{names[0]}/ is next to class folders such as {printable(others[0])}/, but there is no train/."
    listing.add("layout", message, str(listing.root / names[0]))
    return {WHOLE: listing.root} | {name: listing.root / name for name in names}


def is_training(split: str) -> bool:
    """Return whether a split, given by its name or path such as ``seg_train/seg_train``, is the training split."""
    return _split_of(split) == "train"


def is_validation(split: str) -> bool:
    """Return whether a split is the validation split."""
    return _split_of(split) == "val"


def _split_of(split: str) -> SplitName | None:
    return split_named(split.partition(os.sep)[0])


def _list_split(listing: Listing, split: str, place: Path, leave_out: set[str]) -> None:
    folders = [entry for entry in visible_folders(place, listing.scan) if entry.name not in leave_out]
    above = {os.path.realpath(place), *map(str, Path(os.path.realpath(place)).parents)}
    names = []
    for folder in folders:
        if os.path.realpath(folder.path) in above:
            shown = printable(below(folder.path, listing.root))
            message = f"{shown} links to a folder above it, so training would use it as a class."
            listing.add("looping_class", message, folder.path)
            continue
        names.append(folder.name)
        images = _images_below(listing, folder.path)
        if not images:
            shown = printable(below(folder.path, listing.root))
            listing.add("empty_class", f"{shown} has no images.", folder.path)
        listing.items += [Item(path, split, folder.name) for path in images]
    listing.classes[split] = names
    if names:
        _add_loose(listing, place, split, "the class folders")
        return
    loose = _images_below(listing, str(place))
    listing.items += [Item(path, split, NO_LABEL) for path in loose]
    if loose:
        listing.add("flat_folder", f"{count(len(loose), 'image')} of {split} have no class folders.", str(place))


def _images_below(listing: Listing, folder: str) -> list[str]:
    """Return the images at any depth, in natural order, and add findings about other files."""
    images, unread = [], []

    def note_error(error: OSError) -> None:
        shown = printable(below(error.filename, listing.root))
        listing.add("unlisted_folder", f"{shown} cannot be listed: {error.strerror}.", error.filename)

    def note_revisit(path: str) -> None:
        if os.path.islink(path):
            lost = "" if os.path.exists(path) else ", which does not exist"
            message = f"{printable(below(path, listing.root))} links to {printable(os.readlink(path))}{lost}."
            listing.add("symlink_loop", message, path)

    for path in walk_files(folder, note_error, note_revisit, listing.scan):
        if is_image_file(path, _SUFFIXES):
            images.append(path)
        elif os.path.splitext(path)[1].lower() in UNREAD_SUFFIXES:
            unread.append(path)
        elif os.path.islink(path) and not os.path.exists(path):  # for example a link to itself
            note_revisit(path)
    if unread:
        message = f"{count(len(unread), 'picture')} in {printable(below(folder, listing.root))} cannot be read here."
        listing.add("unread_format", message, *sorted(unread))
    return sorted(images, key=natural_key)


def _add_loose(listing: Listing, place: Path, split: str, others: str) -> None:
    """Also examine images that are in a folder of folders."""
    loose = [
        entry.path for entry in visible_entries(place) if not entry.is_dir() and is_image_file(entry.path, _SUFFIXES)
    ]
    if loose:
        where = printable(below(place, listing.root))
        where = "the folder itself" if where == os.curdir else where
        message = f"{count(len(loose), 'image')} in {where} next to {others}."
        listing.add("loose_images", message, *loose)
        listing.items += [Item(path, split, NO_LABEL) for path in sorted(loose, key=natural_key)]


def _list_rest(listing: Listing, folders: list[str]) -> None:
    """Add findings for folders with images that belong to no split."""
    for name in folders:
        place = str(listing.root / name)
        if images := sum(map(is_image_file, walk_files(place, on_error=lambda error: None))):
            listing.add("unused_folder", f"{printable(name)} has {count(images, 'image')}.", place)
