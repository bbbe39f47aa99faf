"""The polygons of a split's images, and their masks, which are drawn once into the cache folder."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from inceptionnext_lit.data.masks.annotations import (
    BACKGROUND,
    CocoFile,
    Outlined,
    labelme_labels,
    read_labelme,
    read_yolo,
    with_background,
    yolo_indices,
)
from inceptionnext_lit.data.masks.layouts import Part
from inceptionnext_lit.data.masks.pairs import Pairs, list_files, pair_up
from inceptionnext_lit.data.masks.polygons import paint
from inceptionnext_lit.data.masks.surveying import Tick, each, identify
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import cache_folder
from inceptionnext_lit.wording import listed

_NOT_YOLO = ("classes.txt", "labels.txt", "notes.txt", "train.txt", "val.txt", "readme.txt", "readme.roboflow.txt",
             "readme.dataset.txt", "obj.names")  # fmt: skip
DRAWN = (
    "A pixel belongs to an object if its center is inside the outline; where objects overlap, the smaller one is on "
    "top; pixels without an object are background."
)


class Outlines(Protocol):
    """The polygons of a split.

    Attributes:
        pairs: The images, and the file with the polygons of each.
        note: A remark, in a sentence; empty if there is none.
    """

    pairs: Pairs
    note: str

    def names(self) -> list[str]:
        """Return the names of the classes that the files have, in order, without a background."""
        ...

    def read(self, place: int, size: tuple[int, int], names: Sequence[str]) -> Outlined:
        """Read the polygons of an image.

        Args:
            place: The image's place in :attr:`pairs`.
            size: Its width and height.
            names: The class names in index order.

        Raises:
            UserError: If they are invalid.
        """
        ...


@dataclass
class CocoOutlines:
    """Polygons of a COCO file."""

    pairs: Pairs
    file: CocoFile
    keys: list[str]
    note: str = ""

    def names(self) -> list[str]:
        """Return the names of the categories."""
        return self.file.names

    def read(self, place: int, size: tuple[int, int], names: Sequence[str]) -> Outlined:
        """Read the polygons of an image."""
        return self.file.outlined(self.keys[place], {name: index for index, name in enumerate(names)})


@dataclass
class LabelmeOutlines:
    """Polygons of labelme's files, one for each image."""

    pairs: Pairs
    note: str = ""

    def names(self) -> list[str]:
        """Return the sorted labels of all files."""
        return sorted({label for labels in each(self.pairs.masks, labelme_labels) for label in labels})

    def read(self, place: int, size: tuple[int, int], names: Sequence[str]) -> Outlined:
        """Read the polygons of an image."""
        return read_labelme(self.pairs.masks[place], {name: index for index, name in enumerate(names)})


@dataclass
class YoloOutlines:
    """Polygons of YOLO's files, one for each image with objects."""

    pairs: Pairs
    listed: list[str] | None
    note: str = ""
    empty: set[int] = field(default_factory=set)

    def names(self) -> list[str]:
        """Return the names of the data set's YAML file, or numbers."""
        if self.listed is not None:
            return self.listed
        files = [path for place, path in enumerate(self.pairs.masks) if place not in self.empty]
        most = max((index for indices in each(files, yolo_indices) for index in indices), default=-1)
        return [f"class {index}" for index in range(most + 1)]

    def read(self, place: int, size: tuple[int, int], names: Sequence[str]) -> Outlined:
        """Read the polygons of an image; without a file, there are none."""
        if place in self.empty:
            return Outlined([])
        index = {name: number for number, name in enumerate(names)}
        own = list(names[1:]) if self.listed is None else self.listed
        if unknown := [name for name in own if name not in index and name != BACKGROUND]:
            raise UserError(f"The YOLO class {unknown[0]!r} is not among the classes: {listed(list(names))}.")
        return read_yolo(self.pairs.masks[place], size, [index.get(name, 0) for name in own])


def coco_outlines(part: Part, suffixes: Collection[str]) -> CocoOutlines:
    """Pair the images of a folder with the entries of a COCO file, by path or by name."""
    if not part.masks.is_file():
        raise UserError(
            f"{part.masks} has no single COCO file (.json); leave one in it, or one for each split by name."
        )
    file = CocoFile(part.masks)
    by_name: dict[str, list[str]] = {}
    for name in file.images:
        by_name.setdefault(name.replace("\\", "/").rpartition("/")[2], []).append(name)
    pairs, keys = Pairs(), list[str]()
    for path in list_files(part.images, suffixes):
        relative = os.path.relpath(path, part.images).replace(os.sep, "/")
        found = [relative] if relative in file.images else by_name.get(os.path.basename(path), [])
        if len(found) != 1:
            pairs.unmasked.append(path) if not found else pairs.clashes.append(path)
            continue
        pairs.images.append(path)
        pairs.masks.append(str(part.masks))
        keys.append(found[0])
    pairs.unused = sorted(file.images.keys() - set(keys))
    return CocoOutlines(pairs, file, keys)


def labelme_outlines(part: Part, suffixes: Collection[str]) -> LabelmeOutlines:
    """Pair the images of a folder with labelme's files."""
    return LabelmeOutlines(pair_up(part.images, part.masks, suffixes, {".json"}, part.only))


def yolo_outlines(part: Part, suffixes: Collection[str], names: list[str] | None) -> YoloOutlines:
    """Pair the images of a folder with YOLO's files; an image without one has no objects."""
    found = pair_up(part.images, part.masks, suffixes, {".txt"}, part.only)
    found.unused = [path for path in found.unused if os.path.basename(path).lower() not in _NOT_YOLO]
    count = len(found.images)
    without, found.unmasked = found.unmasked, []
    found.images += without
    found.masks += [f"{os.path.splitext(path)[0]}.txt" for path in without]
    note = f"Background only, without a YOLO file: {listed(without)}." if without else ""
    return YoloOutlines(found, names, note, set(range(count, count + len(without))))


def draw_masks(
    kind: str, outlines: Outlines, sizes: Sequence[tuple[int, int]], names: Sequence[str], tick: Tick
) -> list[str]:
    """Draw the masks of a split as index PNGs in the cache folder, unless they are there already.

    Args:
        kind: The kind of the polygons.
        outlines: The polygons.
        sizes: Width and height of each image.
        names: The class names in index order.
        tick: Called with the number of masks drawn since the last call.

    Returns:
        The path of each mask; of one that cannot be drawn, the problem as a sentence after a null character.
    """
    files = [*outlines.pairs.images, *dict.fromkeys(outlines.pairs.masks)]
    folder = cache_folder() / "masks" / identify(("drawn", kind, *names), files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = set(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"Masks cannot be drawn into {folder}: {error.strerror}; see INCEPTIONNEXT_LIT_CACHE."
        ) from error

    def draw(place: int) -> str:
        name = f"{place:07}.png"
        if name in done:
            return str(folder / name)
        try:
            found = outlines.read(place, sizes[place], names)
        except UserError as error:
            return f"\0{error}"
        width, height = found.size or sizes[place]
        _save(folder / name, Image.fromarray(paint(found.shapes, height, width)))
        return str(folder / name)

    return each(range(len(sizes)), draw, tick)


def all_names(outlines: Outlines, listed: Sequence[str] | None) -> list[str]:
    """Return the class names in index order, the background first.

    Args:
        outlines: The polygons of the training split.
        listed: The names of a table, if there is one.
    """
    names = with_background(outlines.names() if listed is None else listed)
    if len(names) < 2:
        raise UserError("The annotations have no object of any class; outline the objects.")
    return names


def _save(path: Path, mask: Image.Image) -> None:
    partial_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mask.save(partial_path, "PNG", compress_level=1)
        os.replace(partial_path, path)
    except OSError as error:
        partial_path.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}; see INCEPTIONNEXT_LIT_CACHE.") from error
