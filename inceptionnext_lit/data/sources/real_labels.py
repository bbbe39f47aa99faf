"""ReaL: several correct labels, or none, for each validation image of ImageNet (arXiv 2006.07159)."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from inceptionnext_lit.data.class_words import imagenet_classes
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.files import list_images
from inceptionnext_lit.data.sources.folder import find_layout
from inceptionnext_lit.data.sources.manifest import read_paths
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.scan import Scan
from inceptionnext_lit.data.sources.split_names import SplitName
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count

_IMAGES = 50_000
# Hugging Face's copy adds the image's WordNet ID
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?")


class RealLabelSource:
    """ImageNet's validation images with ReaL labels, in class folders or not; see :class:`Source`.

    Attributes:
        note: How many images have labels; set when they are listed.

    Args:
        root: The folder of the images, or the one that it is in as ``val``, or a manifest.
        file: The file ``real.json``.
        suffixes: Suffixes of image files.
        columns: Unusual names of a manifest's columns.
    """

    notes: Sequence[str] = ()
    unused: Sequence[str] = ()
    unit = "folders"
    has_splits = True

    def __init__(self, root: Path, file: str, suffixes: Collection[str], columns: ColumnNames) -> None:
        self.root = root
        self.ignored: Counter[str] = Counter()
        self.note = ""
        self._file, self._suffixes, self._columns = file, suffixes, columns
        if not is_table(root):
            layout = find_layout(root)
            self.root = (layout.val or root / "val") if layout.has_splits else layout.root
            if not self.root.is_dir():
                raise UserError(f"No validation split: {self.root} was not found; name its folder with --data.root.")

    def classes(self) -> list[str]:
        """Return ImageNet-1k's classes."""
        return list(imagenet_classes())

    def samples(self, split: SplitName, classes: Sequence[str] | None) -> Samples | None:
        """Return the images that have labels, for the split ``val``; see :func:`relabel`."""
        if split != "val":
            raise UserError("data.real_labels are of ImageNet's validation images, so they are only for validate.")
        samples, self.note = relabel(self._paths(), read_real_labels(self._file), classes or self.classes())
        return samples

    def everything(self, classes: Sequence[str] | None) -> Samples:
        """Return the images that have labels."""
        return self.samples("val", classes) or Samples.of([])

    def labels(self, split: SplitName) -> list[str] | None:
        """Return None: an image may have several labels."""
        return None

    def evaluated(self, split: SplitName, classes: Sequence[str]) -> Samples | None:
        """Return the images that have labels."""
        return self.samples(split, classes)

    def place(self, split: SplitName) -> str:
        """Return the folder or the manifest."""
        return str(self.root)

    def _paths(self) -> list[str]:
        if is_table(self.root):
            found, _ = read_paths(str(self.root), columns=self._columns, suffixes=self._suffixes)
        else:
            with Scan(self.root) as scan:
                found = list_images(self.root, self._suffixes, scan)
            self.ignored.update(scan.ignored)
        if not found:
            raise UserError(f"No images in {self.root}; name the folder of ImageNet's validation images.")
        return found


def read_real_labels(path: str | Path) -> list[list[int]]:
    """Read the file ``real.json``.

    Args:
        path: A list of 50,000 lists of class indices, in the order of ``ILSVRC2012_val_00000001`` and so on.

    Raises:
        UserError: If it is something else.
    """
    file = Path(path).expanduser()
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"data.real_labels is {path}, which cannot be read: {error.strerror}.") from error
    except ValueError:  # also if it is not text
        content = None
    classes = len(imagenet_classes())
    if (
        not isinstance(content, list)
        or len(content) != _IMAGES
        or not all(isinstance(labels, list) for labels in content)
        or not all(type(label) is int and 0 <= label < classes for labels in content for label in labels)
    ):
        raise UserError(
            f"{path} is not the file of ReaL labels, a JSON list of {_IMAGES:,} lists of indices below {classes}; "
            "real.json of github.com/google-research/reassessed-imagenet is."
        )
    return content


def relabel(paths: Sequence[str], real: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[Samples, str]:
    """Label ImageNet's validation images by ReaL, and leave out those without a label.

    Args:
        paths: The images, named ``ILSVRC2012_val_00000001.JPEG`` and so on.
        real: What :func:`read_real_labels` returns.
        classes: The model's class names, which must include ImageNet-1k's.

    Returns:
        The images, with the indices of one or several labels each, and a sentence for the user.

    Raises:
        UserError: If an image has another name or is there twice, or the model has other classes.
    """
    place = {name: index for index, name in enumerate(classes)}
    if missing := [name for name in imagenet_classes() if name not in place]:
        raise UserError(
            f"data.real_labels needs a model of ImageNet-1k's classes, named by their WordNet IDs; this one has no "
            f"{missing[0]}{f' and {len(missing) - 1:,} others' if len(missing) > 1 else ''}."
        )
    indices = [place[name] for name in imagenet_classes()]
    seen: dict[int, str] = {}
    kept, labels, counts = [], list[int](), list[int]()
    for path in paths:
        found = _NAME.fullmatch(PurePath(path).stem)
        number = int(found[1]) if found else 0
        if not 1 <= number <= _IMAGES:
            raise UserError(
                f"{path} is not named like a validation image of ImageNet, ILSVRC2012_val_00000001.JPEG to "
                f"ILSVRC2012_val_{_IMAGES:08d}.JPEG, by which data.real_labels are found; evaluate only those images."
            )
        if (other := seen.setdefault(number, path)) != path:
            raise UserError(f"{path} and {other} are the same image of ImageNet; remove one of them.")
        if of_image := sorted({indices[label] for label in real[number - 1]}):
            kept.append(path)
            labels += of_image
            counts.append(len(of_image))
    if not kept:
        raise UserError("None of the images has a ReaL label, so there is nothing to evaluate; check data.root.")
    samples = Samples(PackedStrings.of(kept), np.array(labels, dtype=np.int32), np.array(counts, dtype=np.int32))
    left = len(seen) - len(kept)
    note = f"ReaL labels of {count(len(kept), 'image')}; {count(left, 'image')} without a label left out"
    if len(seen) < _IMAGES:
        note += f" ({len(seen):,} of ImageNet's {_IMAGES:,} are there)"
    return samples, note
