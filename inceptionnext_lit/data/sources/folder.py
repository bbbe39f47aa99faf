"""Scan an image folder for its splits, classes and images."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.files import (
    IMAGE_SUFFIXES,
    is_image_file,
    list_images,
    visible_entries,
    visible_folders,
)
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.scan import Scan
from inceptionnext_lit.data.sources.split_names import SYNONYMS, SplitName, split_named
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count

_LONG: dict[SplitName, str] = {"train": "training", "val": "validation", "test": "test"}
_HOW_TO = (
    "Arrange the images as ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg (or ROOT/CLASS/*.jpg, of which "
    "a part is then held back for validation), and name the folder with --data.root ROOT."
)
_ANY_CHANNELS = IMAGE_SUFFIXES | {".npy"}
_WRAPPERS = 3  # nested folders that contain only one folder, as in unpacked archives: archive/photos/train
_IMAGES_AND_MASKS = [
    {images, masks}
    for images in ("images", "imgs", "img_dir", "jpegimages", "leftimg8bit")
    for masks in ("masks", "annotations", "labels", "ann_dir", "segmentationclass", "gtfine")
]
_NUMBERED_SPLIT = re.compile(r"(?:train|test|val|valid)[\s_-]*(?:\d+|[a-d])", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """The split folders of a data folder; a folder with only classes is its own training split.

    Attributes:
        root: The data folder, or the single folder in it that contains everything.
        train: Folder with the training split's classes.
        val: Folder with the validation split's classes; without it, a part of ``train`` is held back.
        test: Folder with the test split's classes.
        unused: Names of the folders next to the splits.
    """

    root: Path
    train: Path | None
    val: Path | None
    test: Path | None
    unused: tuple[str, ...] = field(default=(), compare=False)

    @property
    def has_splits(self) -> bool:
        """Whether there are split folders, rather than only classes."""
        return self.train != self.root


def find_layout(root: Path, classes: Collection[str] = ()) -> Layout:
    """Find the splits of a data folder by the names of its folders, in any case: see :func:`split_named`.

    A folder that contains only one folder of folders is replaced by it: ``archive/train``, ``seg_train/seg_train``.

    Args:
        root: The data folder.
        classes: Names of folders that are known to be classes.

    Raises:
        UserError: If ``root`` is missing or a file, or its layout is ambiguous.
    """
    _check_root(root)
    root = unwrap(root, classes)
    names = [folder.name for folder in visible_folders(root)]
    found: dict[SplitName, list[str]] = {}
    for name in names:
        if split := split_named(name):
            found.setdefault(split, []).append(name)
    others = [name for name in names if not split_named(name)]
    if others and not any(visible_folders(root / name) for name in found.get("train", ())):
        found.pop("train", None)  # a class of that name, for example among vehicles
    if others and found and "train" not in found:
        first = next(name for names in found.values() for name in names)
        raise UserError(
            f"{root} has {first}/ next to class folders such as {others[0]}/, but no train/ with class "
            f"folders. {_HOW_TO}"
        )
    if not found:
        return Layout(root, train=root, val=None, test=None)
    for split, places in found.items():
        plain = [name for name in places if name.casefold() in SYNONYMS[split]]
        if len(plain) == 1:  # train/ takes precedence over train_images/
            others += [name for name in places if name not in plain]
            places[:] = plain
        elif len(places) > 1:
            raise UserError(
                f"{root} has both {places[0]}/ and {places[1]}/, and only one can be the {_LONG[split]} split. "
                "Rename or remove one of them."
            )
    train = unwrap(root / found["train"][0], classes) if "train" in found else None
    known = classes or [folder.name for folder in visible_folders(train or root)]
    val, test = (unwrap(root / found[split][0], known) if split in found else None for split in ("val", "test"))
    return Layout(root, train, val, test, tuple(sorted(others)))


def unwrap(folder: Path, classes: Collection[str] = ()) -> Path:
    """Return the folder itself, or the single folder below that contains everything, unless named in ``classes``."""
    for _ in range(_WRAPPERS):
        entries = visible_entries(folder)
        only = [entry for entry in entries if entry.is_dir()]
        if len(only) != 1 or only[0].name in classes or any(is_image_file(entry.path) for entry in entries):
            return folder
        split = split_named(only[0].name)
        if split is not None and split != split_named(folder.name):  # a data folder with one split
            return folder
        below = visible_entries(only[0].path)
        if any(is_image_file(entry.path) for entry in below) or not any(entry.is_dir() for entry in below):
            return folder
        folder = Path(only[0].path)
    return folder


def training_classes(layout: Layout) -> list[str]:
    """Return the sorted names of the training split's class folders, whose order defines the class indices.

    Raises:
        UserError: If there is no training split, it has fewer than two class folders, or they are named like splits.
    """
    if layout.train is None:
        raise UserError(
            f"{layout.root} has no train/ folder, whose class folders name the classes. {_HOW_TO} "
            "A trained model has its own class names."
        )
    classes = list_classes(layout.train)
    if len(classes) == 1:
        raise UserError(
            f"{layout.train} has only one class folder, {classes[0]}, and a classifier needs at least two. {_HOW_TO}"
        )
    if {name.casefold() for name in classes} in _IMAGES_AND_MASKS:
        raise UserError(
            f"{layout.train} has {classes[0]}/ and {classes[1]}/, which look like images with masks for segmentation, "
            "not like classes; use SegmentationDataModule, or rename the folders if they are classes."
        )
    if all(split_named(name) or _NUMBERED_SPLIT.fullmatch(name) for name in classes):
        raise UserError(
            f"The folders of {layout.train} are named like splits, not like classes: {enumerate_names(classes)}. "
            f"{_HOW_TO}"
        )
    return classes


def list_classes(split: Path, scan: Scan | None = None) -> list[str]:
    """Return the sorted names of a split's class folders, without scanning them.

    Args:
        split: Folder with one folder per class.
        scan: Counts the skipped images.

    Raises:
        UserError: If there are no class folders.
    """
    classes = [folder.name for folder in visible_folders(split, scan)]
    if not classes:
        loose = sum(1 for entry in visible_entries(split) if is_image_file(entry.path, _ANY_CHANNELS))
        found = f"{count(loose, 'loose image')} in it" if loose else "no images either"
        raise UserError(f"{split} has no class folders ({found}). {_HOW_TO}")
    return classes


def scan_split(
    split: Path,
    classes: Sequence[str],
    origin: str,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    ignored: Counter[str] | None = None,
) -> Samples:
    """List the images of a split with their class indices, class by class, in natural order.

    Args:
        split: Folder with one folder per class, which may have subfolders.
        classes: The class names in index order; the split may lack some.
        origin: The origin of these names, for messages.
        suffixes: Suffixes of image files.
        ignored: Counter that the skipped images are added to, by their folder, such as ``@eaDir``.

    Raises:
        UserError: If a class folder is empty, or not in ``classes``.
    """
    with Scan(split) as scan:
        found = list_classes(split, scan)
        numbers = {name: number for number, name in enumerate(classes)}
        if unknown := [name for name in found if name not in numbers]:
            raise UserError(
                f"{split} has class folders that {origin} does not have: {enumerate_names(unknown)}. "
                f"Known are {enumerate_names(classes)}. Rename or remove these folders, or start a new head for them "
                "from a checkpoint's weights: --model.pretrained CHECKPOINT instead of --ckpt_path."
            )
        prefix = os.path.join(split, "")
        counts: list[int] = []

        def below() -> Iterator[str]:
            for name in found:
                images = list_images(prefix + name, suffixes, scan)
                if not images:
                    raise UserError(
                        f"The class folder {prefix}{name} has no images (known suffixes: "
                        f"{' '.join(sorted(suffixes))}). Add images, or remove the folder."
                    )
                counts.append(len(images))
                for path in images:
                    yield path[len(prefix) :]

        paths = PackedStrings.of(below(), prefix)
    labels = np.repeat(np.array([numbers[name] for name in found], dtype=np.int32), counts)
    if ignored is not None:
        ignored.update(scan.ignored)
    return Samples(paths, labels)


def _check_root(root: Path) -> None:
    if not root.exists():
        raise UserError(f"The data folder {root} does not exist. {_HOW_TO}")
    if not root.is_dir():
        raise UserError(f"The data folder {root} is a file. {_HOW_TO}")
