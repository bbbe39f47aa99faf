"""Check that nothing is missing: in a source as far as it is known beforehand, and in the written folder."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from inceptionnext_lit.prepare.imagenet.folders import val_numbers
from inceptionnext_lit.prepare.imagenet.source import Source, Wanted
from inceptionnext_lit.prepare.imagenet.target import is_partial
from inceptionnext_lit.prepare.imagenet.variants import Counts
from inceptionnext_lit.wording import count, listed

_NAMED = 10  # names in a message; the others are in the list


@dataclass
class Inventory:
    """The images of a source, or of a written folder.

    Attributes:
        train: Training images of each class.
        val: Validation images of each class.
        val_numbers: Numbers of the validation images.
        empty: Images without content, and links to nothing.
        has_train_counts: Whether the training images are counted, and not only their classes known.
    """

    train: Mapping[str, int]
    val: Mapping[str, int]
    val_numbers: set[int] = field(default_factory=set)
    empty: list[str] = field(default_factory=list)
    has_train_counts: bool = True

    @property
    def counts(self) -> Counts:
        """Number of images in the splits."""
        return Counts(sum(self.train.values()), sum(self.val.values()))


@dataclass(frozen=True)
class Shortage:
    """What is missing or too much.

    Attributes:
        phrases: Parts of a sentence.
        names: Names of what is missing: classes, and images as far as they are known.
    """

    phrases: list[str]
    names: list[str]

    def __bool__(self) -> bool:
        """Return whether something is missing or too much."""
        return bool(self.phrases)


def take_inventory(folder: Path, workers: int) -> Inventory:
    """List a written folder, and remove what a killed run has left of single images.

    Args:
        folder: The folder with ``train/`` and ``val/``.
        workers: Number of threads.
    """
    found = Inventory({}, {})
    for split in ("train", "val"):
        place = folder / split
        classes = sorted(os.listdir(place)) if place.is_dir() else []
        counts = {}
        with ThreadPoolExecutor(workers) as pool:
            listings = pool.map(_list_class, [os.path.join(place, wnid) for wnid in classes])
            for wnid, (names, empty) in zip(classes, listings, strict=True):
                counts[wnid] = len(names)
                found.empty += [f"{split}/{wnid}/{name}" for name in empty]
                if split == "val":
                    found.val_numbers |= val_numbers(names)
        if split == "train":
            found.train = counts
        else:
            found.val = counts
    return found


def _list_class(folder: str) -> tuple[set[str], list[str]]:
    names, empty = set(), []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_partial(entry.name):
                os.unlink(entry.path)
                continue
            names.add(entry.name)
            try:
                if entry.stat().st_size == 0:
                    empty.append(entry.name)
            except FileNotFoundError:
                empty.append(entry.name)
    return names, empty


def known_before(source: Source) -> Inventory:
    """Return a source's images as far as they are known without reading all of it."""
    train = {wnid: 1 if number is None else number for wnid, number in source.train.counts.items()}
    val = {wnid: number or 0 for wnid, number in source.val.counts.items()}
    is_counted = None not in source.train.counts.values()
    empty = [*source.train.empty, *source.val.empty]
    return Inventory(train, val, set(source.val.val_numbers or ()), empty, has_train_counts=is_counted)


def expected_counts(found: Inventory, wanted: Wanted) -> Counts:
    """Return how many images there must be: of the two splits of fast.ai's sets, the one that the source has."""
    own, other = wanted.variant.counts, wanted.variant.from_imagenet
    val = found.counts.val * len(wanted.variant.classes) / len(wanted.classes)  # of a subset, as if it were whole
    if other is None or abs(val - own.val) <= abs(val - other.val):
        return own
    return other


def shortage(found: Inventory, wanted: Wanted, source: Source) -> Shortage:
    """Return what is missing or too much; for a subset, only classes without images, and empty images.

    Args:
        found: What there is.
        wanted: What there must be.
        source: Where it comes from.
    """
    phrases, names = [], []
    expected = expected_counts(found, wanted)
    for split, counts, total in (("train", found.train, expected.train), ("val", found.val, expected.val)):
        number = sum(counts.values())
        if missing := [wnid for wnid in wanted.classes if not counts.get(wnid)]:
            there = len(wanted.classes) - len(missing)
            phrases.append(f"{split} has {there:,} of {len(wanted.classes):,} classes (without {_some(missing)})")
            names += [f"{split}/{wnid}" for wnid in missing]
        is_counted = found.has_train_counts or split == "val"
        if wanted.is_whole and is_counted and number != total:
            lost = _lost_images(split, found, wanted, total) if number < total else []
            wrong = [] if lost else _differing(split, counts, wanted, source, total)
            where = f" (without {_some(lost)})" if lost else f" ({_some(wrong)})" * bool(wrong)
            phrases.append(f"{split} has {number:,} {'of' if number < total else 'instead of'} {total:,} images{where}")
            names += [f"{split}/{name}" for name in lost or wrong]
    if found.empty:
        verb = "is" if len(found.empty) == 1 else "are"
        phrases.append(f"{count(len(found.empty), 'image')} {verb} empty or cannot be found ({_some(found.empty)})")
        names += found.empty
    return Shortage(phrases, names)


def fewer_than_asked(found: Inventory, wanted: Wanted) -> list[str]:
    """Return notes on the classes of a subset that have fewer images than asked for, or than ImageNet has."""
    if wanted.images is None:
        return []
    notes = []
    for word, counts, number in (
        ("training", found.train, wanted.images),
        ("validation", found.val, _val_per_class(found, wanted)),
    ):
        if few := [wnid for wnid in wanted.classes if counts.get(wnid, 0) < number]:
            verb = "class has" if len(few) == 1 else "classes have"
            notes.append(f"{len(few):,} {verb} fewer than {number:,} {word} images: {listed(few)}.")
    return notes


def _val_per_class(found: Inventory, wanted: Wanted) -> int:
    """Return the number of validation images that each class must have; 0 if the classes have different numbers."""
    total, classes = expected_counts(found, wanted).val, len(wanted.variant.classes)
    return 0 if total % classes else total // classes


def _some(names: list[str]) -> str:
    return listed(names, _NAMED)


def _lost_images(split: str, found: Inventory, wanted: Wanted, total: int) -> list[str]:
    """Return the names of missing validation images, which are numbered; those of a part of ImageNet are not known."""
    if split == "train" or len(wanted.classes) != len(wanted.variant.known):
        return []
    lost = sorted(set(range(1, total + 1)) - found.val_numbers)
    return [f"ILSVRC2012_val_{number:08}.JPEG" for number in lost] if len(lost) < total else []


def _differing(split: str, counts: Mapping[str, int], wanted: Wanted, source: Source, total: int) -> list[str]:
    """Return the classes with another number of images than they must have, if that is known."""
    classes = wanted.classes
    if split == "train":
        right = source.train_counts()
    else:
        right = dict.fromkeys(classes, total // len(classes)) if total % len(classes) == 0 else {}
    return [
        f"{wnid}: {counts[wnid]:,} of {right[wnid]:,}"
        for wnid in classes
        if wnid in right and counts.get(wnid, 0) not in (0, right[wnid])
    ]
