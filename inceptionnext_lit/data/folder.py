"""The scan of an image folder: which folders are classes, and which files are images."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.files import IMAGE_SUFFIXES, is_image, list_images, visible_entries, visible_folders
from inceptionnext_lit.data.samples import Samples
from inceptionnext_lit.data.scan import Scan
from inceptionnext_lit.data.texts import Texts
from inceptionnext_lit.errors import UserError

VAL_NAMES = ("val", "valid", "validation")
SPLIT_NAMES = ("train", *VAL_NAMES, "test")
_HOW_TO = (
    "Lay the images out as ROOT/train/CLASS/*.jpg and ROOT/val/CLASS/*.jpg (or ROOT/CLASS/*.jpg, of which "
    "a part is then held back for validation), and name the folder with --data.root ROOT."
)


@dataclass(frozen=True)
class Layout:
    """Where the splits of a data folder lie; a folder of nothing but classes is its own training split.

    Attributes:
        root: The data folder.
        train: Folder with the training split's classes.
        val: Folder with the validation split's classes; without it, a part of ``train`` is held back.
        test: Folder with the test split's classes.
    """

    root: Path
    train: Path | None
    val: Path | None
    test: Path | None


def find_layout(root: Path) -> Layout:
    """Tells the splits of a data folder by the names of its folders; reads one level, or two.

    Raises:
        UserError: If ``root`` is missing or a file, or its folders' names leave the layout open.
    """
    _check_root(root)
    names = [folder.name for folder in visible_folders(root)]
    splits = [name for name in SPLIT_NAMES if name in names]
    classes = [name for name in names if name not in splits]
    if classes and "train" in splits and not visible_folders(root / "train"):
        splits.remove("train")  # a class of that name: vehicles, say
    if classes and splits and "train" not in splits:
        raise UserError(
            f"{root} has {splits[0]}/ beside class folders such as {classes[0]}/, but no train/ with class "
            f"folders. {_HOW_TO}"
        )
    if not splits:
        return Layout(root, train=root, val=None, test=None)
    val_names = [name for name in VAL_NAMES if name in splits]
    if len(val_names) > 1:
        raise UserError(
            f"{root} has both {val_names[0]}/ and {val_names[1]}/, and only one can be the validation split. "
            "Rename or remove one of them."
        )
    return Layout(
        root,
        train=root / "train" if "train" in splits else None,
        val=root / val_names[0] if val_names else None,
        test=root / "test" if "test" in splits else None,
    )


def training_classes(layout: Layout) -> list[str]:
    """The sorted names of the training split's class folders: their order is the class index everywhere.

    Raises:
        UserError: If there is no training split, or it has fewer than two class folders.
    """
    if layout.train is None:
        raise UserError(
            f"{layout.root} has no train/ folder, whose class folders name the classes. {_HOW_TO} "
            "A model that is already trained brings its own class names."
        )
    classes = list_classes(layout.train)
    if len(classes) == 1:
        raise UserError(
            f"{layout.train} has only one class folder, {classes[0]}, and a classifier needs at least two. {_HOW_TO}"
        )
    return classes


def list_classes(split: Path, scan: Scan | None = None) -> list[str]:
    """The sorted names of a split's class folders, without a look into them.

    Args:
        split: Folder with one folder per class.
        scan: What counts the images that are left out.

    Raises:
        UserError: If there is no class folder.
    """
    classes = [folder.name for folder in visible_folders(split, scan)]
    if not classes:
        loose = sum(1 for entry in visible_entries(split) if is_image(entry.name))
        found = f"{loose} images lie loose in it" if loose else "no images either"
        raise UserError(f"{split} has no class folders ({found}). {_HOW_TO}")
    return classes


def scan_split(
    split: Path,
    classes: Sequence[str],
    origin: str,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    ignored: Counter[str] | None = None,
) -> Samples:
    """Every image of a split with its class index: class by class, files in natural order.

    Args:
        split: Folder with one folder per class; folders further down count for their class.
        classes: The class names in index order; the split may lack some.
        origin: Where these names come from, for messages.
        suffixes: Endings of the files that are images.
        ignored: Where the images that are left out are added, by the folder that they lie in, such as ``@eaDir``.

    Raises:
        UserError: If a class folder is empty, or is none of ``classes``.
    """
    with Scan(split) as scan:
        found = list_classes(split, scan)
        numbers = {name: number for number, name in enumerate(classes)}
        if unknown := [name for name in found if name not in numbers]:
            raise UserError(
                f"{split} has class folders that {origin} does not have: {enumerate_names(unknown)}. "
                f"Known are {enumerate_names(classes)}. Rename or remove these folders, or start a new head for them "
                "from a checkpoint's weights: --model.pretrained CHECKPOINT in the place of --ckpt_path."
            )
        prefix = os.path.join(split, "")
        counts: list[int] = []

        def below() -> Iterator[str]:
            for name in found:
                images = list_images(prefix + name, suffixes, scan)
                if not images:
                    raise UserError(
                        f"The class folder {prefix}{name} holds no images (known endings: "
                        f"{' '.join(sorted(suffixes))}). Add images, or remove the folder."
                    )
                counts.append(len(images))
                for path in images:
                    yield path[len(prefix) :]

        paths = Texts.of(below(), prefix)
    labels = np.repeat(np.array([numbers[name] for name in found], dtype=np.int32), counts)
    if ignored is not None:
        ignored.update(scan.ignored)
    return Samples(paths, labels)


def _check_root(root: Path) -> None:
    if not root.exists():
        raise UserError(f"The data folder {root} does not exist. {_HOW_TO}")
    if not root.is_dir():
        raise UserError(f"The data folder {root} is a file. {_HOW_TO}")
