"""Turn what is known of each file into findings."""

from collections.abc import Sequence
from statistics import median

from inceptionnext_lit.data.checks import twin_key
from inceptionnext_lit.data.class_words import display_name, with_words
from inceptionnext_lit.doctor.duplicates import duplicate_groups
from inceptionnext_lit.doctor.examine import Examination
from inceptionnext_lit.doctor.findings import KINDS, Finding, below
from inceptionnext_lit.doctor.listing import NO_LABEL, NO_SPLIT, WHOLE, Item, Listing, is_training, is_validation
from inceptionnext_lit.wording import count, listed, printable

Counts = dict[str, dict[str, int]]
"""Images per class in each split."""

_IMBALANCE = 10  # ratio of the largest class to the smallest
_TINY = 16  # pixels of the shorter side
_TINY_SHARE = 10  # ratio of the median shorter side to the image's
_EXTREME = 5  # ratio of the sides; the evaluation crop then keeps less than a fifth
_HUGE = 50_000_000  # pixels
_NOTES = {
    "cmyk": "of mode CMYK",
    "sixteen_bit": "of 16 bits per channel",
    "rotated": "with an EXIF rotation",
    "transparent": "with transparent pixels",
    "nodata": "with pixels without data",
    "animated": "with several frames or pages each",
    "tiny": "with very few pixels",
    "extreme_shape": f"at least {_EXTREME} times as long as wide",
    "huge": f"with more than {_HUGE:,} pixels",
}


def diagnose(listing: Listing, examinations: Sequence[Examination]) -> list[Finding]:
    """Return all findings on a folder, in the order of the report.

    Args:
        listing: The folder's images, with findings from their names and locations.
        examinations: What is known of each image, in the same order.
    """
    counts = count_images(listing)
    findings = [*listing.findings, *_judge_names(counts), *_judge_counts(counts)]
    findings += _judge_files(listing, examinations)
    findings += _judge_arrays(listing, examinations)
    findings += _judge_duplicates(listing, examinations)
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: order[finding.kind])


def count_images(listing: Listing) -> Counts:
    """Count images per class in each split, readable or not, including empty classes but not images without a split."""
    counts: Counts = {split: dict.fromkeys(names, 0) for split, names in listing.classes.items()}
    for item in listing.items:
        if item.split != NO_SPLIT:
            counts[item.split][item.label] = counts[item.split].get(item.label, 0) + 1
    return counts


def imbalance(classes: dict[str, int]) -> float | None:
    """Return the ratio of the largest class to the smallest nonempty one; None without classes."""
    sizes = [number for name, number in classes.items() if name != NO_LABEL and number]
    return round(max(sizes) / min(sizes), 2) if sizes else None


def _judge_names(counts: Counts) -> list[Finding]:
    names = {split: {name for name in classes if name != NO_LABEL} for split, classes in counts.items()}
    places: dict[str, dict[str, list[str]]] = {}
    for split, found in names.items():
        for name in sorted(found):
            place = name if split == WHOLE else f"{split}/{name}"
            places.setdefault(twin_key(name), {}).setdefault(name, []).append(place)
    findings = []
    for twins in places.values():
        if len(twins) > 1:
            paths = tuple(path for found in twins.values() for path in found)
            quoted = " and ".join(f"'{printable(name)}'" for name in twins)
            findings.append(Finding("twin_classes", f"{quoted} are almost the same name ({listed(paths)}).", paths))
    train = next((split for split in names if is_training(split) and names[split]), None)
    if train is not None:
        for split in [split for split in names if split != train and names[split]]:
            findings += _missing(names[train] - names[split], missing_from=split, there=train)
            findings += _missing(names[split] - names[train], missing_from=train, there=split)
    return findings


def _missing(names: set[str], missing_from: str, there: str) -> list[Finding]:
    if not names:
        return []
    found = sorted(names)
    shown = [with_words(name) for name in found]
    message = f"{missing_from} lacks {count(len(found), 'class', 'classes')} of {there}: {listed(shown, 10)}."
    return [Finding("missing_class", message, tuple(f"{there}/{name}" for name in found))]


def _judge_counts(counts: Counts) -> list[Finding]:
    findings = []
    for split in [split for split in counts if split == WHOLE or is_training(split)]:
        classes = {name: number for name, number in counts[split].items() if name != NO_LABEL}
        prefix = "" if split == WHOLE else f"{split}/"
        if len(classes) == 1:
            (only,) = classes
            findings.append(Finding("one_class", f"{display_name(only)} is the only class.", (prefix + only,)))
        ratio = imbalance(classes)
        if ratio is not None and ratio >= _IMBALANCE:
            filled = {name: number for name, number in classes.items() if number}
            large, small = max(filled, key=lambda name: filled[name]), min(filled, key=lambda name: filled[name])
            message = (
                f"{display_name(large)} has {count(filled[large], 'image')}, {display_name(small)} has "
                f"{filled[small]:,}: {ratio:,.0f} times as many."
            )
            findings.append(Finding("imbalance", message, (prefix + large, prefix + small)))
        if not any(is_validation(name) for name in counts):
            findings += [
                Finding("few_images", f"{printable(prefix + name)} has only one image.", (prefix + name,))
                for name, number in classes.items()
                if number == 1
            ]
    return findings


def _judge_files(listing: Listing, examinations: Sequence[Examination]) -> list[Finding]:
    findings = []
    noted: dict[str, list[str]] = {kind: [] for kind in _NOTES}
    shorter = [min(examination.size) for examination in examinations if not examination.error]
    tiny = max(_TINY, median(shorter) / _TINY_SHARE) if shorter else 0
    for examination in examinations:
        path = below(examination.path, listing.root)
        if examination.error:
            reason = printable(examination.error).rstrip(".")
            kind = "too_large" if examination.is_too_large else "unreadable"
            findings.append(Finding(kind, f"{printable(path)}: {reason}.", (path,)))
            continue
        if examination.look.is_plain:
            color = ", ".join(f"{level:.0f}" for level in examination.look.color)
            message = f"{printable(path)} is almost entirely one color (red, green, blue: {color})."
            findings.append(Finding("one_colour", message, (path,)))
        if examination.is_16_bit and examination.look.is_dark:
            message = f"{printable(path)} has 16 bits per channel, but no value above a sixteenth of their range."
            findings.append(Finding("dark", message, (path,)))
        short, long = sorted(examination.size)
        for kind, applies in {
            "cmyk": examination.mode == "CMYK",
            "sixteen_bit": examination.is_16_bit,
            "rotated": examination.orientation != 1,
            "transparent": examination.is_transparent,
            "nodata": examination.has_nodata,
            "animated": examination.is_animated,
            "tiny": short < tiny,
            "extreme_shape": long >= _EXTREME * short,
            "huge": short * long > _HUGE,
        }.items():
            if applies:
                noted[kind].append(path)
    for kind, paths in noted.items():
        if paths:
            message = f"{count(len(paths), 'image')} {_NOTES[kind]}: {listed(paths)}."
            findings.append(Finding(kind, message, tuple(paths)))
    return findings


def _judge_arrays(listing: Listing, examinations: Sequence[Examination]) -> list[Finding]:
    modes: dict[str, list[str]] = {}
    outside: dict[str, tuple[float, float]] = {}
    for examination in examinations:
        if examination.array is not None:
            path = below(examination.path, listing.root)
            modes.setdefault(examination.mode, []).append(path)
            ends = examination.array.extremes
            if ends is not None and not 0 <= ends[0] <= ends[1] <= 1:
                outside[path] = ends
    findings = []
    for mode, paths in modes.items():
        channels, _, dtype = mode.partition(" × ")
        of = f"{count(len(paths), 'file')} of {count(int(channels), 'channel')} of {dtype}"
        findings.append(Finding("array", f"{of}: {listed(paths)}.", tuple(paths)))
    if outside:
        low, high = min(ends[0] for ends in outside.values()), max(ends[1] for ends in outside.values())
        of = f"{count(len(outside), 'file')} of floats from {low:g} to {high:g}"
        findings.append(Finding("value_range", f"{of}: {listed(list(outside))}.", tuple(outside)))
    return findings


def _judge_duplicates(listing: Listing, examinations: Sequence[Examination]) -> list[Finding]:
    findings = []
    for group in duplicate_groups(examinations):
        items = [listing.items[index] for index in group]
        by_bytes: dict[bytes, list[Item]] = {}
        for index in group:
            by_bytes.setdefault(examinations[index].digest, []).append(listing.items[index])
        how = "contain the same bytes" if len(by_bytes) == 1 else "look the same"
        splits = dict.fromkeys(item.split for item in items if item.split != NO_SPLIT)
        labels = dict.fromkeys(item.label for item in items if item.label != NO_LABEL)
        if len(splits) > 1:
            findings.append(_group("leak", listing, items, f"{how}, in the splits {listed(list(splits))}"))
        if len(labels) > 1:
            shown = listed([with_words(name) for name in labels])
            findings.append(_group("contradiction", listing, items, f"{how}, with the labels {shown}"))
        if len(splits) > 1 or len(labels) > 1:
            continue
        findings += [
            _group("duplicate", listing, copies, "contain the same bytes")
            for copies in by_bytes.values()
            if len(copies) > 1
        ]
        if len(by_bytes) > 1:
            findings.append(_group("near_duplicate", listing, [copies[0] for copies in by_bytes.values()], how))
    return findings


def _group(kind: str, listing: Listing, items: Sequence[Item], what: str) -> Finding:
    paths = tuple(below(item.path, listing.root) for item in items)
    return Finding(kind, f"{listed(paths)} {what}.", paths)
