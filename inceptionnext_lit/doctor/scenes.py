"""The doctor's examination of images with masks."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.masks.options import MaskOptions
from inceptionnext_lit.data.masks.scheme import UNKNOWN, Scheme
from inceptionnext_lit.data.masks.source import MaskSource
from inceptionnext_lit.data.masks.survey import Survey
from inceptionnext_lit.doctor.diagnosis import Counts, diagnose
from inceptionnext_lit.doctor.findings import KINDS, Finding, below
from inceptionnext_lit.doctor.listing import NO_LABEL, Item, Listing
from inceptionnext_lit.doctor.report import Report, summarize_sizes
from inceptionnext_lit.doctor.survey import survey
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.wording import count, listed

_SHEET = 24  # images with masks on the page


@dataclass(frozen=True)
class SceneReport(Report):
    """What was found in a folder of images with masks.

    Attributes:
        listed: Number of images in each split, which may have several classes each.
        shares: Share of each class of the labeled pixels, in each split.
        ignored: Share of ignored pixels in each split.
        scheme: What the masks mean; None if that is unclear.
        sheet: Some images with their masks.
    """

    listed: dict[str, int] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    ignored: dict[str, float] = field(default_factory=dict)
    scheme: Scheme | None = None
    sheet: Sequence[tuple[str, str]] = ()

    def images_of(self, split: str) -> int:
        """Return the number of images of a split."""
        return self.listed[split]

    def record(self) -> dict[str, Any]:
        """Return the report as plain data, with the keys of the JSON file."""
        return {**super().record(), "shares": self.shares, "ignored": self.ignored}

    def share_lines(self) -> list[str]:
        """Describe the share of each class and of ignored pixels, a line for each split."""
        lines = []
        for split, shares in self.shares.items():
            largest = sorted(shares.items(), key=lambda item: -item[1])
            text = ", ".join(f"{name} {100 * share:.1f}%" for name, share in largest[:10])
            more = f" and {len(largest) - 10} more" if len(largest) > 10 else ""
            lines.append(f"{split}: labeled pixels are {text}{more}; ignored {100 * self.ignored[split]:.1f}%")
        return lines


def examine_scenes(
    root: Path,
    workers: int,
    tick: Callable[[int], object] = lambda read: None,
    max_pixels: int = MAX_PIXELS,
    classes: str | None = None,
) -> SceneReport:
    """Read each image and each mask of a folder once, without changing anything.

    Args:
        root: The folder.
        workers: Number of processes that read images.
        tick: Called repeatedly with the number of files read since the last call.
        max_pixels: Maximum number of pixels of an image or a mask.
        classes: The table of classes; None for that of the folder, if there is one.

    Raises:
        UserError: If annotations cannot be read at all, or a process was killed.
    """
    start = time.perf_counter()
    source = MaskSource(root, MaskOptions(classes=classes), max_pixels=max_pixels, tick=tick)
    surveys = {str(split): source.survey(split) for split in source.layout.parts}
    listing = Listing(source.root)
    for split, found in surveys.items():
        listing.classes[split] = []
        listing.items += [Item(path, split, NO_LABEL) for path in _images(found)]
    examinations = survey([item.path for item in listing.items], workers, tick, max_pixels)
    findings = [*diagnose(listing, examinations), *_judge_problems(source, surveys)]
    scheme = _scheme(source, findings)
    counts = {} if scheme is None else {name: _counts(found, scheme) for name, found in surveys.items()}
    if scheme is not None:
        findings += _judge_values(source, scheme)
        findings += _judge_classes(source, surveys, scheme, counts)
    order = {kind: place for place, kind in enumerate(KINDS)}
    readable = [examination for examination in examinations if not examination.error]
    return SceneReport(
        source.root,
        len(examinations),
        time.perf_counter() - start,
        _images_of_classes(surveys, scheme, counts),
        summarize_sizes(readable),
        dict(Counter(examination.mode for examination in readable).most_common()),
        dict(Counter(examination.format for examination in readable).most_common()),
        sorted(findings, key=lambda finding: order[finding.kind]),
        {split: len(_images(found)) for split, found in surveys.items()},
        *_shares(counts, scheme),
        scheme,
        [] if scheme is None else _sheet(surveys, scheme),
    )


def _images(found: Survey) -> list[str]:
    unmasked = [problem.path for problem in found.problems if problem.kind == "mask_missing"]
    return [*(image.path for image in found.images), *unmasked]


def _judge_problems(source: MaskSource, surveys: dict[str, Survey]) -> list[Finding]:
    problems = [problem for found in surveys.values() for problem in found.problems]
    return [Finding(problem.kind, problem.message, (below(problem.path, source.root),)) for problem in problems]


def _judge_values(source: MaskSource, scheme: Scheme) -> list[Finding]:
    findings = []
    for split in source.layout.parts:
        known = len(source.survey(split).problems)
        for problem in source.problems(split)[known:]:
            findings.append(Finding(problem.kind, problem.message, (below(problem.path, source.root),)))
    if scheme.kind == "color":
        colors = [f"{name} {tuple(color)}" for name, color in zip(scheme.names, scheme.palette, strict=True)]
        findings.append(Finding("masks", f"Colors: {listed(colors, 30)}."))
    return [*findings, *(Finding("masks", note) for note in source.notes)]


def _scheme(source: MaskSource, findings: list[Finding]) -> Scheme | None:
    try:
        return source.scheme
    except UserError as error:
        if not any(str(error).startswith(finding.message) for finding in findings):
            findings.append(Finding("mask_kind", str(error)))
        return None


def _counts(found: Survey, scheme: Scheme) -> list[dict[int, int]]:
    """Return the pixels of each class in each mask that can be read."""
    return [{} if mask.error else scheme.counts(mask) for mask in found.masks]


def _judge_classes(
    source: MaskSource, surveys: dict[str, Survey], scheme: Scheme, counts: dict[str, list[dict[int, int]]]
) -> list[Finding]:
    findings = []
    empty, background = list[str](), list[str]()
    for split, of_masks in counts.items():
        for image, mask in zip(surveys[split].images, of_masks, strict=True):
            present = [index for index in mask if index < UNKNOWN]
            if mask.keys() == {IGNORED}:
                empty.append(below(image.path, source.root))
            elif present == [0]:
                background.append(below(image.path, source.root))
    if empty:
        findings.append(Finding("unlabeled", f"{count(len(empty), 'image')}: {listed(empty)}.", tuple(empty)))
    if background:
        text = f"{count(len(background), 'image')} with {scheme.names[0]} only: {listed(background)}."
        findings.append(Finding("background_only", text, tuple(background)))
    seen = {index for mask in counts.get("train", []) for index in mask}
    if "train" in counts and (absent := [name for index, name in enumerate(scheme.names) if index not in seen]):
        what = count(len(absent), "class", "classes")
        findings.append(Finding("absent_class", f"No training image has {what}: {listed(absent, 10)}.", tuple(absent)))
    return findings


def _images_of_classes(
    surveys: dict[str, Survey], scheme: Scheme | None, counts: dict[str, list[dict[int, int]]]
) -> Counts:
    if scheme is None:
        return {split: {NO_LABEL: len(_images(found))} for split, found in surveys.items()}
    return {
        split: {name: sum(index in mask for mask in of_masks) for index, name in enumerate(scheme.names)}
        for split, of_masks in counts.items()
    }


def _shares(
    counts: dict[str, list[dict[int, int]]], scheme: Scheme | None
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return the share of each class of the labeled pixels, and of ignored pixels, in each split."""
    shares, ignored = {}, {}
    for split, of_masks in counts.items() if scheme is not None else ():
        total: Counter[int] = Counter()
        for mask in of_masks:
            total.update(mask)
        labeled = sum(pixels for index, pixels in total.items() if index < UNKNOWN)
        assert scheme is not None
        shares[split] = {name: round(total[index] / max(1, labeled), 6) for index, name in enumerate(scheme.names)}
        ignored[split] = round(total[IGNORED] / max(1, total.total()), 6)
    return shares, ignored


def _sheet(surveys: dict[str, Survey], scheme: Scheme) -> list[tuple[str, str]]:
    """Return some images of all splits with their masks, spread evenly."""
    pairs = [
        (image.path, mask.path)
        for found in surveys.values()
        for image, mask in zip(found.images, found.masks, strict=True)
        if not (image.error or mask.error or UNKNOWN in scheme.counts(mask)) and image.size == mask.size
    ]
    step = max(1, -(-len(pairs) // _SHEET))
    return pairs[::step]
