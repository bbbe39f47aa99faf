"""Pair images with masks by their names."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES, natural_key, visible_entries, walk_files
from inceptionnext_lit.data.sources.scan import Scan

RASTERS = IMAGE_SUFFIXES
_LOSSLESS = (".png", ".bmp", ".gif", ".tif", ".tiff")
_AFTER = (
    "_gtFine_labelTrainIds", "_gtFine_labelIds", "_labelTrainIds", "_labelIds", "_mask", "_masks", "_gt", "_label",
    "_labels", "_segmentation", "_seg", "_annotation", "_anno", "_ann", "_lab", "_L", "_matte", "_target", "-mask",
    "-label", "-labels", "-gt", ".mask", "_label_ids", "_indexed",
)  # fmt: skip
_IMAGE_AFTER = ("", "_leftImg8bit", "_image", "_img", "_sat", "_rgb", "-image", "-img")
_BEFORE = (("", "mask_"), ("image_", "mask_"), ("img_", "mask_"), ("image", "mask"), ("img", "mask"),
           ("", "mask-"), ("image-", "mask-"), ("", "label_"), ("image_", "label_"), ("image", "label"),
           ("", "gt_"), ("", "seg_"))  # fmt: skip


@dataclass(frozen=True)
class Naming:
    """How the name of a mask differs from its image's, without suffixes.

    Attributes:
        image: What an image's name has before and after the common part.
        mask: What a mask's name has before and after the common part.
        keeps_suffix: Whether the common part includes the image's suffix: ``a.jpg`` and ``a.jpg.png``.
    """

    image: tuple[str, str] = ("", "")
    mask: tuple[str, str] = ("", "")
    keeps_suffix: bool = False

    def describe(self) -> str:
        """Describe the names; empty if they are the same."""
        if self == Naming():
            return ""
        image = "NAME.jpg" if self.keeps_suffix else f"{self.image[0]}NAME{self.image[1]}"
        return f"The mask of {image} is {self.mask[0]}{'NAME.jpg' if self.keeps_suffix else 'NAME'}{self.mask[1]}."


@dataclass
class Pairs:
    """Images with their masks.

    Attributes:
        images: The images that have a mask, in natural order.
        masks: The mask file of each.
        unmasked: Images without a mask.
        unused: Masks without an image.
        clashes: Files that share a name with another one, so that it is unclear which belongs to which.
        naming: How the names differ.
    """

    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    unmasked: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    naming: Naming = Naming()

    @property
    def notes(self) -> list[str]:
        """How the names differ, in a sentence, if they do."""
        return [text] if (text := self.naming.describe()) else []


def pair_up(
    images: Path,
    masks: Path,
    suffixes: Collection[str],
    mask_suffixes: Collection[str],
    only: Collection[str] | None = None,
    scan: Scan | None = None,
) -> Pairs:
    """Pair the images below a folder with the masks below another one, or the same.

    Args:
        images: The folder of the images.
        masks: The folder of the masks; subfolders match those of the images.
        suffixes: Suffixes of images.
        mask_suffixes: Suffixes of masks.
        only: Names of the images without their suffixes; None for all. Their masks have the same names.
        scan: Counts the files.
    """
    same = os.path.realpath(images) == os.path.realpath(masks)
    of_images = list_files(images, suffixes, scan)
    of_masks = list_files(masks, mask_suffixes, scan)
    if only is not None:
        wanted = set(only)
        of_images, of_masks = ([path for path in of if _stem(path) in wanted] for of in (of_images, of_masks))
    skips_equal = same and bool(set(mask_suffixes) & set(suffixes))  # every image would be its own mask
    best = _best_naming(of_images, of_masks, images, masks, skips_equal=skips_equal)
    if best is None and not same:  # the subfolders may have other names
        best = _best_naming(of_images, of_masks, None, None, skips_equal=skips_equal)
        if best is not None:
            return _paired(of_images, of_masks, None, None, best, same=same)
    return _paired(of_images, of_masks, images, masks, best or Naming(), same=same)


def annotation_suffixes(images: Path, masks: Path) -> frozenset[str]:
    """Return the suffixes of the masks in a folder: of pictures, ``.json`` or ``.txt``.

    Args:
        images: The folder of the images.
        masks: The folder of the masks, which may be the same.
    """
    found = {os.path.splitext(path)[1].lower() for path in walk_files(masks, on_error=lambda error: None)}
    same = os.path.realpath(images) == os.path.realpath(masks)
    if found & RASTERS and not (same and ".json" in found):
        return RASTERS
    return frozenset({".json"}) if ".json" in found else frozenset({".txt"})


def has_side_by_side(folder: Path) -> bool:
    """Return whether a folder has images with annotations of the same or a related name next to them."""
    names = [entry.name for entry in visible_entries(folder) if entry.is_file()]
    stems = {os.path.splitext(name)[0] for name in names if os.path.splitext(name)[1].lower() in RASTERS}
    if any(name.lower().endswith(".json") and name[:-5] in stems for name in names):
        return True
    lossless = [os.path.splitext(name)[0] for name in names if os.path.splitext(name)[1].lower() in _LOSSLESS]
    return any(stem.endswith(after) and stem.removesuffix(after) in stems for stem in lossless for after in _AFTER)


def _best_naming(
    of_images: Sequence[str],
    of_masks: Sequence[str],
    images: Path | None,
    masks: Path | None,
    *,
    skips_equal: bool,
) -> Naming | None:
    """Return the naming that gives most images a mask; None if none does."""
    most, best = 0, None
    for naming in _namings():
        if skips_equal and naming == Naming():
            continue
        image_keys = _keys(of_images, images, naming.image, naming.keeps_suffix)
        matched = len(image_keys.keys() & _keys(of_masks, masks, naming.mask, False).keys())
        if matched > most:
            most, best = matched, naming
        if naming == Naming() and matched == len(of_images):
            break
    return best


def _namings() -> Iterator[Naming]:
    yield Naming()
    yield Naming(keeps_suffix=True)
    for after in _AFTER:
        for image_after in _IMAGE_AFTER:
            yield Naming(("", image_after), ("", after))
    for image_after in _IMAGE_AFTER[1:]:
        yield Naming(("", image_after))
    for image, mask in _BEFORE:
        yield Naming((image, ""), (mask, ""))


def list_files(folder: Path, suffixes: Collection[str], scan: Scan | None = None) -> list[str]:
    """List the files at any depth with one of some suffixes, in natural order."""
    below = len(os.path.join(folder, ""))
    found = [path for path in walk_files(folder, scan=scan) if os.path.splitext(path)[1].lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path[below:]))


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _keys(
    paths: Sequence[str], folder: Path | None, affixes: tuple[str, str], keeps_suffix: bool
) -> dict[str, list[str]]:
    """Return the files that have the affixes, by the common part of their names; without a folder, by names alone."""
    before, after = affixes
    start = 0 if folder is None else len(os.path.join(folder, ""))
    keys: dict[str, list[str]] = {}
    for path in paths:
        place, name = os.path.split(path[start:])
        stem = name if keeps_suffix else os.path.splitext(name)[0]
        if stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after):
            core = stem[len(before) : len(stem) - len(after)]
            keys.setdefault(core if folder is None else os.path.join(place, core), []).append(path)
    return keys


def _paired(
    of_images: Sequence[str],
    of_masks: Sequence[str],
    images: Path | None,
    masks: Path | None,
    naming: Naming,
    *,
    same: bool,
) -> Pairs:
    pairs = Pairs(naming=naming)
    mask_keys = _keys(of_masks, masks, naming.mask, False)
    own = {path for found in mask_keys.values() for path in found} if same and naming != Naming() else set()
    image_keys = _keys([path for path in of_images if path not in own], images, naming.image, naming.keeps_suffix)
    for key, found in image_keys.items():
        candidates = mask_keys.get(key, [])
        if len(found) > 1 or len(candidates) > 1:
            pairs.clashes += found if len(found) > 1 else candidates
        elif candidates:
            pairs.images.append(found[0])
            pairs.masks.append(candidates[0])
        else:
            pairs.unmasked.append(found[0])
    named = {path for found in image_keys.values() for path in found}
    pairs.unmasked += [path for path in of_images if path not in named and path not in own]
    pairs.unused += [path for key, found in mask_keys.items() if key not in image_keys for path in found]
    return pairs
