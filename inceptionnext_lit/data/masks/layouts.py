"""Find the folders of images and masks of a data set."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inceptionnext_lit.data.masks.pairs import has_side_by_side
from inceptionnext_lit.data.sources.files import is_image_file, visible_entries, visible_folders
from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName, split_named

Form = Literal["folder", "ade20k", "cityscapes", "voc"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "leftimg8bit", "photos", "pictures")
MASK_FOLDERS = (
    "masks", "mask", "annotations", "annotation", "labels", "label", "ann_dir", "ann", "anns", "gt", "groundtruth",
    "ground_truth", "segmentationclassaug", "segmentationclasspng", "segmentationclass", "segmentations",
    "segmentation", "gtfine", "targets", "seg",
)  # fmt: skip
_WRAPPERS = 3  # nested folders that contain only one folder
_YEAR = re.compile(r"[_-]?(?:19|20)\d\d$")  # train2017
_MOST_COCO_FILES = 50  # of a folder; more are one per image
_HEAD = 65536  # bytes
_ADE20K = "ADEChallengeData2016"
_IMAGES_AFTER = re.compile(r"[_-]?(?:images?|imgs?)$")
_MASKS_AFTER = ("_labels", "_masks", "_mask", "_label", "_annotations", "annot", "_gt", "-masks", "-labels")
_KNOWN = (_ADE20K, "VOCdevkit", "VOC2012", "VOC2007")  # folders in archives, next to others
_VOC_LISTS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train_aug", "trainaug", "train"),
    "val": ("val",),
    "test": ("test",),
}


@dataclass(frozen=True)
class Part:
    """The images and the masks of a split.

    Attributes:
        images: The folder of the images.
        masks: The folder of the masks, which may be the same, or a COCO file.
        only: Names of the split's images without their suffixes; None for all in the folder.
    """

    images: Path
    masks: Path
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SceneLayout:
    """The splits of a folder of images with masks.

    Attributes:
        root: The data folder, or the single folder in it that contains everything.
        form: Whose layout it is.
        parts: The splits; a folder without splits is its own training split.
        has_splits: Whether there are named splits.
        without_masks: Folders of a split's images that have no masks.
    """

    root: Path
    form: Form
    parts: dict[SplitName, Part]
    has_splits: bool
    without_masks: dict[SplitName, Path] = field(default_factory=dict)

    @property
    def has_augmented(self) -> bool:
        """Whether it is Pascal VOC's with the masks of SBD as PNGs."""
        return any(part.masks.name.casefold() == "segmentationclassaug" for part in self.parts.values())


def find_scenes(root: Path) -> SceneLayout | None:
    """Find the images and masks below a folder; None if it is not a folder of images with masks.

    Raises:
        UserError: If a folder cannot be listed.
    """
    for _ in range(_WRAPPERS):
        if not root.is_dir():
            return None
        for find in (_voc, _side_folders, _split_folders, _coco_folders, _images_and_coco, _flat):
            if (layout := find(root)) is not None:
                return layout
        known = next((root / name for name in _KNOWN if (root / name).is_dir()), None)
        if known is not None:
            root = known
            continue
        folders = visible_folders(root)
        if (
            len(folders) != 1
            or split_named(folders[0].name)
            or any(is_image_file(e.path) for e in visible_entries(root))
        ):
            return None
        root = Path(folders[0].path)
    return None


def split_of(name: str) -> SplitName | None:
    """Return the split that a folder's name means, such as ``train2017``."""
    return split_named(_YEAR.sub("", name))


def _voc(root: Path) -> SceneLayout | None:
    folders = _by_name(root)
    masks = next((folders[name] for name in ("segmentationclassaug", "segmentationclass") if name in folders), None)
    lists = root / "ImageSets" / "Segmentation"
    if "jpegimages" not in folders or masks is None or not lists.is_dir():
        return None
    parts: dict[SplitName, Part] = {}
    for split, names in _VOC_LISTS.items():
        usable = names if masks.name.endswith("Aug") else [name for name in names if "aug" not in name]
        path = next((lists / f"{name}.txt" for name in usable if (lists / f"{name}.txt").is_file()), None)
        if path is None:
            continue
        stems = tuple(line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        if split != "test" or any((masks / f"{stem}.png").is_file() for stem in stems):
            parts[split] = Part(folders["jpegimages"], masks, stems)
    return SceneLayout(root, "voc", parts, has_splits=True) if parts else None


def _side_folders(root: Path) -> SceneLayout | None:
    """Match ``images/`` and ``masks/`` next to each other, each with or without splits."""
    pair = _image_and_mask_folders(root)
    if pair is None:
        return None
    images, masks = pair
    form: Form = "folder"
    if (images.name.casefold(), masks.name.casefold()) == ("leftimg8bit", "gtfine"):
        form = "cityscapes"
    elif root.name == _ADE20K or (root / "objectInfo150.txt").is_file():
        form = "ade20k"
    splits = _splits(images)
    if not splits:
        return SceneLayout(root, form, {"train": Part(images, _coco_file(masks, None) or masks)}, has_splits=False)
    below = _splits(masks)
    parts, without = {}, {}
    for split, folder in splits.items():
        found = below.get(split) or _coco_file(masks, split)
        if found is None:
            without[split] = folder
        else:
            parts[split] = Part(folder, found)
    if not parts:
        return None
    return SceneLayout(root, form, parts, has_splits=True, without_masks=without)


def _split_folders(root: Path) -> SceneLayout | None:
    """Match ``train/images/`` with ``train/masks/``, ``train/`` with ``train_masks/``, and both in ``train/``."""
    parts: dict[SplitName, Part] = {}
    for split, folder in _splits(root).items():
        pair = _image_and_mask_folders(folder)
        if pair is not None:
            parts[split] = Part(*pair)
        elif (beside := _mask_folder_beside(root, folder)) is not None:
            parts[split] = Part(folder, beside)
        elif (coco := _coco_file(folder, None)) is not None:
            parts[split] = Part(folder, coco)
        elif has_side_by_side(folder):
            parts[split] = Part(folder, folder)
    return SceneLayout(root, "folder", parts, has_splits=True) if parts else None


def _mask_folder_beside(root: Path, folder: Path) -> Path | None:
    """Return the folder of the masks of ``train/`` or ``train_images/`` next to it, such as ``train_labels/``."""
    base = _IMAGES_AFTER.sub("", folder.name.casefold())
    folders = _by_name(root)
    return next((folders[name] for after in _MASKS_AFTER if (name := base + after) in folders), None)


def _coco_folders(root: Path) -> SceneLayout | None:
    """Match COCO's own layout: ``train2017/`` with ``annotations/instances_train2017.json``."""
    annotations = _by_name(root).get("annotations")
    if annotations is None:
        return None
    files = {split: _coco_file(annotations, split) for split in SPLIT_NAMES}
    parts = {split: Part(folder, file) for split, folder in _splits(root).items() if (file := files[split]) is not None}
    return SceneLayout(root, "folder", parts, has_splits=True) if parts else None


def _images_and_coco(root: Path) -> SceneLayout | None:
    """Match ``images/`` with a COCO file next to it, as Label Studio exports them, or with one for each split."""
    folders = _by_name(root)
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    if images is None:
        return None
    if splits := _splits(images):
        parts = {split: Part(folder, file) for split, folder in splits.items() if (file := _coco_file(root, split))}
        return SceneLayout(root, "folder", parts, has_splits=True) if parts else None
    file = _coco_file(root, None)
    return None if file is None else SceneLayout(root, "folder", {"train": Part(images, file)}, has_splits=False)


def _flat(root: Path) -> SceneLayout | None:
    """Match images and masks side by side in one folder."""
    coco = _coco_file(root, None) if any(is_image_file(entry.path) for entry in visible_entries(root)) else None
    if coco is None and not has_side_by_side(root):
        return None
    return SceneLayout(root, "folder", {"train": Part(root, coco or root)}, has_splits=False)


def _image_and_mask_folders(root: Path) -> tuple[Path, Path] | None:
    folders = _by_name(root)
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = next((folders[name] for name in MASK_FOLDERS if name in folders), None)
    return None if images is None or masks is None else (images, masks)


def _by_name(root: Path) -> dict[str, Path]:
    return {entry.name.casefold(): Path(entry.path) for entry in visible_folders(root)}


def _splits(root: Path) -> dict[SplitName, Path]:
    found: dict[SplitName, Path] = {}
    for entry in visible_folders(root):
        if (split := split_of(entry.name)) is not None:
            found.setdefault(split, Path(entry.path))
    return found


def _coco_file(folder: Path, split: SplitName | None) -> Path | None:
    """Return the COCO file of a folder: of a split by its name, or the only one."""
    files = list(_coco_files(folder))
    if split is None:
        return files[0] if len(files) == 1 else None
    named = [file for file in files if split in _words(file.stem)]
    instances = [file for file in named if file.stem.startswith("instances_")]
    return next(iter(instances or named), None)


def _words(stem: str) -> Sequence[SplitName | None]:
    return [split_of(word) for word in re.split(r"[_.\s-]+", stem)]


def _coco_files(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder that begin like COCO's and not like labelme's, of which there are many."""
    entries = [entry for entry in visible_entries(folder) if entry.name.lower().endswith(".json") and entry.is_file()]
    for entry in entries if len(entries) <= _MOST_COCO_FILES else []:
        with open(entry.path, "rb") as file:
            head = file.read(_HEAD)
        if b'"shapes"' not in head and any(key in head for key in (b'"images"', b'"annotations"', b'"categories"')):
            yield Path(entry.path)
