"""A data set of images with masks, as the source of the samples of each split."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.masks.annotations import yolo_names
from inceptionnext_lit.data.masks.class_table import ClassTable, colormap, find_table
from inceptionnext_lit.data.masks.deciding import decide
from inceptionnext_lit.data.masks.known import known_table
from inceptionnext_lit.data.masks.layouts import SceneLayout, find_scenes
from inceptionnext_lit.data.masks.options import POLYGONS, MaskKind, MaskOptions
from inceptionnext_lit.data.masks.outlines import (
    DRAWN,
    Outlines,
    all_names,
    coco_outlines,
    labelme_outlines,
    yolo_outlines,
)
from inceptionnext_lit.data.masks.pairs import RASTERS, annotation_suffixes
from inceptionnext_lit.data.masks.problems import Problem, refuse, value_problems
from inceptionnext_lit.data.masks.scheme import UNKNOWN, Scheme
from inceptionnext_lit.data.masks.stored import StoredMask
from inceptionnext_lit.data.masks.survey import Reading, Survey, survey_outlines, survey_pictures
from inceptionnext_lit.data.masks.surveying import Tick
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.prepared import refuse_unfinished
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED

_HOW_TO = (
    "Arrange the files as ROOT/images/train/*.jpg with ROOT/masks/train/*.png of the same names, and val/ next to "
    "train/, or without splits as ROOT/images and ROOT/masks, of which a part is then held back for validation."
)


class MaskSource:
    """Images with masks, found by the names of folders and files; see :func:`find_scenes`.

    A sample's labels are the classes that its mask has.

    Args:
        root: The data folder.
        options: How masks are stored.
        classes: The class names in index order, if given.
        suffixes: Suffixes of image files.
        max_pixels: Maximum number of pixels of an image or a mask.
        apply_exif: Whether the EXIF orientation of images is applied.
        tick: Called with the number of files read since the last call.

    Raises:
        UserError: If it is not a folder of images with masks.
    """

    unit = "folders"
    unused: Sequence[str] = ()

    def __init__(
        self,
        root: Path,
        options: MaskOptions = MaskOptions(),
        classes: Sequence[str] | None = None,
        suffixes: Collection[str] = IMAGE_SUFFIXES,
        max_pixels: int = MAX_PIXELS,
        *,
        apply_exif: bool = True,
        tick: Tick = lambda read: None,
    ) -> None:
        refuse_unfinished(root)
        self.layout = _layout(root)
        self.root = self.layout.root
        self.has_splits = self.layout.has_splits
        self.ignored: Counter[str] = Counter()
        is_ade20k = self.layout.form == "ade20k"
        self.options = replace(options, reduce_zero_label=True) if is_ade20k else options
        self._given = None if classes is None else list(classes)
        self._reading = Reading(suffixes, max_pixels, apply_exif, tick)
        self._surveys: dict[SplitName, Survey] = {}
        self._samples: dict[SplitName, Samples] = {}
        self._mask_of: dict[str, StoredMask] = {}
        self._polygons: dict[SplitName, Outlines] = {}

    @cached_property
    def kind(self) -> MaskKind | None:
        """The kind of the masks if they are polygons; None if they are pictures."""
        if self.options.kind in POLYGONS or self.options.kind != "auto":
            return self.options.kind if self.options.kind in POLYGONS else None
        part = self.layout.parts[self._first]
        if part.masks.is_file():
            return "coco"
        suffixes = annotation_suffixes(part.images, part.masks)
        return None if suffixes == RASTERS else "labelme" if ".json" in suffixes else "yolo"

    @cached_property
    def table(self) -> ClassTable | None:
        """The table of classes, of the folder or of a public data set's layout."""
        table = find_table(self.root, self.options.classes)
        if table is not None or self.kind is not None:
            return table
        survey = self.survey(self._first)
        return known_table(self.layout, os.path.splitext(survey.names[0])[0]) if survey.names else None

    @cached_property
    def scheme(self) -> Scheme:
        """What the masks mean, for the given class names.

        Raises:
            UserError: If that is unclear.
        """
        if self.kind is not None:
            names = self._drawn_names
            own = {index: index for index in range(len(names))} | {IGNORED: IGNORED}
            note = f"Masks drawn from {_TITLES[self.kind]}, with {len(names)} classes. {DRAWN}"
            scheme = Scheme(self.kind, names, self._drawn_palette, own, {}, (note,))
        else:
            survey = self.survey(self._first)
            masks = [mask for mask in survey.masks if not mask.error]
            if not masks:
                refuse(survey.problems)
                raise UserError(f"{self.place(self._first)} has no masks. {_HOW_TO}")
            scheme = decide(masks, self.options, self.table, None if self._given is None else len(self._given))
        return scheme if self._given is None else scheme.relabeled(self._given)

    @property
    def notes(self) -> list[str]:
        """Remarks on how the masks were found and read, in sentences."""
        found = [note for survey in self._surveys.values() for note in survey.notes]
        return list(dict.fromkeys([*self._form_notes(), *found, *self.scheme.notes]))

    def survey(self, split: SplitName) -> Survey:
        """Look at all images and masks of a split, once.

        Raises:
            UserError: If annotations cannot be read at all.
        """
        if split not in self._surveys:
            part, reading = self.layout.parts[split], self._reading
            if self.kind is None:
                self._surveys[split] = survey_pictures(part, reading)
            else:
                self._surveys[split] = survey_outlines(self.kind, self._outlines(split), self._drawn_names, reading)
        return self._surveys[split]

    def problems(self, split: SplitName) -> list[Problem]:
        """Return what must be corrected in a split before training."""
        survey = self.survey(split)
        return [*survey.problems, *value_problems(survey.masks, self.scheme, survey.names)]

    def masks(self, images: PackedStrings) -> PackedStrings:
        """Return the mask file of each image of the splits requested so far."""
        return PackedStrings.of(self._mask_of[path].path for path in images)

    def digests(self, images: PackedStrings) -> list[int]:
        """Return a hash of each image's mask."""
        return [self._mask_of[path].digest for path in images]

    def sizes(self, images: PackedStrings) -> list[tuple[int, int]]:
        """Return the width and height of each image and its mask."""
        return [self._mask_of[path].size for path in images]

    def pixels(self, images: PackedStrings) -> list[dict[int, int]]:
        """Return the number of labeled pixels of each class in each image's mask."""
        counted = (self.scheme.counts(self._mask_of[path]) for path in images)
        return [{index: pixels for index, pixels in of.items() if index < UNKNOWN} for of in counted]

    def classes(self) -> list[str]:
        """Return the class names in index order."""
        return list(self.scheme.names)

    def samples(self, split: SplitName, classes: Sequence[str] | None = None) -> Samples | None:
        """Return the samples of a split, checked once; None if there is no such split.

        Args:
            split: The split.
            classes: Not used: the class names were given to the constructor.

        Raises:
            UserError: If the training split is requested but missing, or something must be corrected.
        """
        if split not in self.layout.parts:
            if split == "train":
                raise UserError(f"{self.root} has no training images with masks. {_HOW_TO}")
            return None
        if split not in self._samples:
            survey = self.survey(split)
            refuse(survey.problems)
            refuse(self.problems(split))
            present = [[index for index in self.scheme.counts(mask) if index < UNKNOWN] for mask in survey.masks]
            if not any(present):
                raise UserError(f"{self.place(split)} has no mask with a labeled pixel; label the objects.")
            paths = [image.path for image in survey.images]
            self._mask_of |= dict(zip(paths, survey.masks, strict=True))
            labels = np.fromiter((index for of in present for index in of), dtype=np.int32)
            counts = np.fromiter(map(len, present), dtype=np.int32)
            self._samples[split] = Samples(PackedStrings.of(paths), labels, counts)
        return self._samples[split]

    def everything(self, classes: Sequence[str] | None = None) -> Samples:
        """Return all samples of a source without splits."""
        return self.samples("train") or Samples.of([])

    def labels(self, split: SplitName) -> list[str] | None:
        """Return the class names; None if there is no such split."""
        return self.classes() if split in self.layout.parts else None

    def evaluated(self, split: SplitName, classes: Sequence[str]) -> Samples | None:
        """Return the samples of a split for an evaluation; None if there is no such split."""
        return self.samples(split) if split in self.layout.parts else None

    def place(self, split: SplitName) -> str:
        """Return the folder of a split's images."""
        part = self.layout.parts.get(split)
        return str(self.root / split if part is None else part.images)

    @property
    def _first(self) -> SplitName:
        """The split that decides what the masks mean."""
        return next(split for split in SPLIT_NAMES if split in self.layout.parts)

    @cached_property
    def _drawn_names(self) -> list[str]:
        return all_names(self._outlines(self._first), None if self.table is None else self.table.names)

    @property
    def _drawn_palette(self) -> list[list[int]]:
        colors = self.table.colors if self.table is not None else None
        palette = colormap(len(self._drawn_names))
        if colors is not None:
            palette[-len(colors) :] = [list(color) for color in colors]
        return palette

    def _outlines(self, split: SplitName) -> Outlines:
        if split not in self._polygons:
            part = self.layout.parts[split]
            if self.kind == "coco":
                self._polygons[split] = coco_outlines(part, self._reading.suffixes)
            elif self.kind == "labelme":
                self._polygons[split] = labelme_outlines(part, self._reading.suffixes)
            else:
                self._polygons[split] = yolo_outlines(part, self._reading.suffixes, yolo_names(self.root))
        return self._polygons[split]

    def _form_notes(self) -> list[str]:
        title = {"ade20k": "ADE20K", "cityscapes": "Cityscapes", "voc": "Pascal VOC"}.get(self.layout.form)
        notes = [] if title is None else [f"The folder has the layout of {title}."]
        without = [str(folder) for folder in self.layout.without_masks.values()]
        return notes + ([f"Not used, since there are no masks for it: {', '.join(without)}."] if without else [])


_TITLES = {"coco": "COCO's polygons", "labelme": "labelme's polygons", "yolo": "YOLO's polygons"}


def _layout(root: Path) -> SceneLayout:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"The data folder {root} {what}. {_HOW_TO}")
    layout = find_scenes(root)
    if layout is None:
        raise UserError(f"{root} is not a folder of images with masks. {_HOW_TO}")
    return layout
