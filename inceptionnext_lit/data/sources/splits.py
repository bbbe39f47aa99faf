"""Sources of the samples of each split: class folders, or a manifest."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.columns import ColumnNames
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES
from inceptionnext_lit.data.sources.folder import find_layout, list_classes, scan_split, training_classes
from inceptionnext_lit.data.sources.manifest import Manifest, read_manifest
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.prepared import refuse_unfinished
from inceptionnext_lit.data.sources.raw_imagenet import refuse_raw_imagenet
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError


class Source(Protocol):
    """A source of samples.

    Attributes:
        root: The folder that paths are relative to.
        ignored: Skipped images of the splits scanned so far, by their folder.
        has_splits: Whether it has named splits, one of which must be used for evaluation.
        unused: Names of the folders next to the splits.
        unit: What contains the images: ``folders`` or ``rows``.
    """

    root: Path
    ignored: Counter[str]
    has_splits: bool
    unused: Sequence[str]
    unit: str

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on how the source was read, in sentences."""

    def classes(self) -> list[str]:
        """Return the sorted class names of the training split."""
        ...

    def samples(self, split: SplitName, classes: Sequence[str] | None) -> Samples | None:
        """Return the samples of a split; None if there is no such split.

        Args:
            split: The split.
            classes: The class names in index order; None for those of the training split.

        Raises:
            UserError: If the training split is requested but missing.
        """
        ...

    def everything(self, classes: Sequence[str] | None) -> Samples:
        """Return all samples of a source without splits, for an evaluation; raises like :meth:`samples`."""
        ...

    def labels(self, split: SplitName) -> list[str] | None:
        """Return the sorted labels in a split; None if there is no such split."""
        ...

    def evaluated(self, split: SplitName, classes: Sequence[str]) -> Samples | None:
        """Return the samples of a split for an evaluation, which may lack classes; None if there is no such split.

        Args:
            split: The split.
            classes: The class names in index order.

        Raises:
            UserError: If the split has labels that are not in ``classes``.
        """
        ...

    def place(self, split: SplitName) -> str:
        """Return the location of a split's images, existing or not, for messages."""
        ...


class FolderSource:
    """Class folders, with or without split folders; see :func:`find_layout`.

    Args:
        root: The data folder.
        suffixes: Suffixes of image files.
        classes: The class names, if given; a folder with such a name is not taken for a wrapper of the data set.

    Raises:
        UserError: If it is not a folder, or its layout is ambiguous.
    """

    notes: Sequence[str] = ()
    unit = "folders"

    def __init__(
        self, root: Path, suffixes: Collection[str] = IMAGE_SUFFIXES, classes: Sequence[str] | None = None
    ) -> None:
        self._layout = find_layout(root, frozenset(classes or ()))
        self.has_splits = self._layout.has_splits
        self.unused: Sequence[str] = self._layout.unused
        self._suffixes = suffixes
        self._classes: list[str] | None = None
        self.ignored: Counter[str] = Counter()
        self._scanned: dict[tuple[SplitName, tuple[str, ...] | None], Samples] = {}
        self.root = self._layout.train or root

    def classes(self) -> list[str]:
        """Return the sorted names of the training split's class folders, listed once."""
        if self._classes is None:
            self._classes = training_classes(self._layout)
        return list(self._classes)

    def samples(self, split: SplitName, classes: Sequence[str] | None) -> Samples | None:
        """Return the samples of a split folder, scanned once; None if there is no such folder."""
        folder: Path | None = getattr(self._layout, split)
        if folder is None and split == "train":
            raise UserError(
                f"{self._layout.root} has neither a train/ folder nor class folders"
                + ("." if self._layout.val else ", and no val/ folder.")
                + " Training needs train/; validation needs val/, or train/ to hold a part of it back."
            )
        if folder is None:
            return None
        key = split, None if classes is None else tuple(classes)
        if key not in self._scanned:
            origin = f"the training split {self._layout.train}" if classes is None else _GIVEN
            names = self.classes() if classes is None else classes
            self._scanned[key] = scan_split(folder, names, origin, self._suffixes, self.ignored)
        return self._scanned[key]

    def everything(self, classes: Sequence[str] | None) -> Samples:
        """Return the images of all class folders."""
        return self.samples("train", classes) or Samples.of([])

    def labels(self, split: SplitName) -> list[str] | None:
        """Return the sorted names of a split's class folders; None if there is no such folder."""
        folder: Path | None = getattr(self._layout, split)
        return None if folder is None else list_classes(folder)

    def evaluated(self, split: SplitName, classes: Sequence[str]) -> Samples | None:
        """Return the samples of a split folder; None if there is no such folder."""
        return None if getattr(self._layout, split) is None else self.samples(split, classes)

    def place(self, split: SplitName) -> str:
        """Return the folder of a split."""
        return str(getattr(self._layout, split) or self._layout.root / split)


class ManifestSource:
    """A manifest; without a column ``split``, all images are training data.

    Args:
        path: The table.
        multi_label: Whether an image may have several labels.
        columns: Unusual names of its columns.
        suffixes: Suffixes of image files.
        may_be_single: Whether all images of a multi-label task may have one label each.

    Raises:
        UserError: As :func:`read_manifest`.
    """

    unit = "rows"

    def __init__(
        self,
        path: Path,
        multi_label: bool,
        columns: ColumnNames,
        suffixes: Collection[str] = IMAGE_SUFFIXES,
        *,
        may_be_single: bool = False,
    ) -> None:
        self._path = path
        self.root = path.parent
        self.ignored: Counter[str] = Counter()
        manifest = read_manifest(
            path, multi_label=multi_label, may_be_single=may_be_single, columns=columns, suffixes=suffixes
        )
        self.notes: Sequence[str] = manifest.notes
        self._names = list(dict.fromkeys(label for labels in dict.fromkeys(manifest.labels) for label in labels))
        codes = {split: number for number, split in enumerate(SPLIT_NAMES)}
        splits = np.zeros(len(manifest.paths))  # all images are training data
        if manifest.splits is not None:
            splits = np.fromiter(map(codes.__getitem__, manifest.splits), dtype=np.int64)
        self.has_splits = manifest.splits is not None
        self.unused: Sequence[str] = ()
        images = self._packed(manifest, multi_label)
        self._parts = {split: images.take(splits == code) for split, code in codes.items()}

    def classes(self) -> list[str]:
        """Return the sorted labels of the training images.

        Raises:
            UserError: If there are no training images, or they have fewer than two labels.
        """
        names = sorted(self._used("train"))
        if len(names) < 2:
            found = f"only the label {names[0]}" if names else "no training images"
            raise UserError(f"The manifest {self._path} has {found}, and a classifier needs at least two classes.")
        return names

    def samples(self, split: SplitName, classes: Sequence[str] | None) -> Samples | None:
        """Return the samples of a split; None if no row names it."""
        part = self._parts[split]
        if not len(part) and split != "train":
            return None
        names = self.classes() if classes is None else classes
        samples = self._labeled(split, names)
        used = self._used(split)
        if split == "train" and (unused := [name for name in names if name not in used]):
            raise UserError(
                f"No training image of {self._path} has the label {enumerate_names(unused)}; add images with it, or "
                "leave it out of the class names."
            )
        return samples

    def everything(self, classes: Sequence[str] | None) -> Samples:
        """Return the images of all rows."""
        return self._labeled("train", self.classes() if classes is None else classes)

    def labels(self, split: SplitName) -> list[str] | None:
        """Return the sorted labels of a split's rows; None if no row names it."""
        return sorted(self._used(split)) if len(self._parts[split]) else None

    def evaluated(self, split: SplitName, classes: Sequence[str]) -> Samples | None:
        """Return the samples of a split; None if no row names it."""
        return self._labeled(split, classes) if len(self._parts[split]) else None

    def place(self, split: SplitName) -> str:
        """Describe the rows of a split."""
        return f"the split {split} in {self._path}" if self.has_splits or split != "train" else str(self._path)

    def _labeled(self, split: SplitName, names: Sequence[str]) -> Samples:
        index = {name: number for number, name in enumerate(names)}
        if unknown := sorted(self._used(split) - index.keys()):
            raise UserError(
                f"The manifest {self._path} has labels that {_GIVEN} does not have: {enumerate_names(unknown)}. Known "
                f"are {enumerate_names(names)}. Correct these labels, or start a new head for them from a checkpoint's "
                "weights: --model.pretrained CHECKPOINT instead of --ckpt_path."
            )
        return self._parts[split].relabeled(np.array([index.get(name, -1) for name in self._names], dtype=np.int32))

    def _used(self, split: SplitName) -> set[str]:
        return {self._names[number] for number in np.unique(self._parts[split].labels).tolist()}

    def _packed(self, manifest: Manifest, multi_label: bool) -> Samples:
        """Pack all images, with labels as indices of the names."""
        place = {name: number for number, name in enumerate(self._names)}
        numbers = {labels: [place[label] for label in labels] for labels in dict.fromkeys(manifest.labels)}
        weights = None if manifest.weights is None else np.array(manifest.weights)
        return Samples(
            PackedStrings.of(manifest.paths),
            np.fromiter((number for labels in manifest.labels for number in numbers[labels]), dtype=np.int32),
            np.fromiter(map(len, manifest.labels), dtype=np.int32) if multi_label else None,
            None if weights is None or (weights == 1).all() else weights,
            None if manifest.groups is None else PackedStrings.of(manifest.groups),
        )


_GIVEN = "the checkpoint (or the given list of class names)"


def open_source(
    root: Path,
    *,
    multi_label: bool,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    columns: ColumnNames | None = None,
    classes: Sequence[str] | None = None,
) -> Source:
    """Open a data folder or a manifest.

    Args:
        root: A data folder, or a table of images.
        multi_label: Whether an image may have several labels, which requires a manifest.
        suffixes: Suffixes of image files.
        columns: Unusual names of a table's columns.
        classes: The class names, if given.

    Raises:
        UserError: If it is neither, is invalid, or is ImageNet as it is distributed.
    """
    refuse_unfinished(root)
    refuse_raw_imagenet(root)
    if is_table(root):
        known = classes is not None  # a few images for a checkpoint may have one label each
        return ManifestSource(root, multi_label, columns or ColumnNames(), suffixes, may_be_single=known)
    if multi_label:
        raise UserError(
            f"data.multi_label is on, but class folders give an image one label; name a manifest with --data.root "
            f"instead of {root}, or leave data.multi_label out."
        )
    return FolderSource(root, suffixes, classes)
