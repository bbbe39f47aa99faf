"""The doctor's report on a folder."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.class_words import class_words
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.doctor.diagnosis import Counts, count_images, diagnose, imbalance
from inceptionnext_lit.doctor.examine import Examination
from inceptionnext_lit.doctor.findings import Finding
from inceptionnext_lit.doctor.listing import Listing
from inceptionnext_lit.doctor.survey import survey

_COMMON_SIZES = 10


@dataclass(frozen=True)
class Report:
    """What was found in a folder.

    Attributes:
        root: The folder.
        images: Number of examined files.
        seconds: Duration of the examination.
        splits: Images per class in each split; images without a class have the empty name.
        sizes: Sizes of the readable images: ``width`` and ``height``, each with ``min``, ``median`` and ``max`` in
            pixels, and ``common``, the most frequent sizes with their counts. Empty if no image is readable.
        modes: Number of images per Pillow mode, the most frequent first.
        formats: Number of images per file format, the most frequent first.
        findings: Problems and notes.
    """

    root: Path
    images: int
    seconds: float
    splits: Counts
    sizes: dict[str, Any]
    modes: dict[str, int]
    formats: dict[str, int]
    findings: Sequence[Finding]

    def images_of(self, split: str) -> int:
        """Return the number of images of a split."""
        return sum(self.splits[split].values())

    @property
    def problems(self) -> int:
        """Number of findings that are problems."""
        return sum(finding.severity == "problem" for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """Return the report as plain data, with the keys of the JSON file.

        ``words`` has the words of the classes that are WordNet IDs, if any are. Bytes of file names that are not UTF-8
        become lone surrogates, as with :func:`os.fsdecode`.
        """
        return {
            "root": str(self.root),
            "images": self.images,
            "seconds": round(self.seconds, 2),
            "problems": self.problems,
            "splits": self.splits,
            "imbalance": {split: imbalance(classes) for split, classes in self.splits.items()},
            "sizes": self.sizes,
            "modes": self.modes,
            "formats": self.formats,
            **({"words": words} if (words := self._words()) else {}),
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "message": finding.message,
                    "remedy": finding.remedy,
                    "paths": list(finding.paths),
                }
                for finding in self.findings
            ],
        }

    def _words(self) -> dict[str, str]:
        names = dict.fromkeys(name for classes in self.splits.values() for name in classes)
        return {name: words for name in names if (words := class_words(name)) is not None}


def examine_listing(
    listing: Listing,
    workers: int,
    tick: Callable[[int], object] = lambda read: None,
    max_pixels: int = MAX_PIXELS,
) -> Report:
    """Read each image of a listing once, without changing anything.

    Args:
        listing: The images.
        workers: Number of reading processes.
        tick: Called repeatedly with the number of files read since the last call.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        UserError: If a process was killed.
    """
    start = time.perf_counter()
    examinations = survey([item.path for item in listing.items], workers, tick, max_pixels)
    findings = diagnose(listing, examinations)
    readable = [examination for examination in examinations if not examination.error]
    return Report(
        listing.root,
        len(examinations),
        time.perf_counter() - start,
        count_images(listing),
        summarize_sizes(readable),
        dict(Counter(examination.mode for examination in readable).most_common()),
        dict(Counter(examination.format for examination in readable).most_common()),
        findings,
    )


def summarize_sizes(examinations: Sequence[Examination]) -> dict[str, Any]:
    """Return the minimum, median and maximum of width and height, and the most frequent sizes.

    Args:
        examinations: The readable images.
    """
    if not examinations:
        return {}
    sizes = [examination.size for examination in examinations]
    summary: dict[str, Any] = {}
    for place, name in enumerate(("width", "height")):
        sides = [size[place] for size in sizes]
        summary[name] = {"min": min(sides), "median": statistics.median_low(sides), "max": max(sides)}
    common = Counter(sizes).most_common(_COMMON_SIZES)
    summary["common"] = [{"width": width, "height": height, "images": n} for (width, height), n in common]
    return summary
