"""What a file loses by int8: accuracy on labeled images, and agreement with the float file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.wording import count

_WIDTH = 1.96  # standard errors of a 95% interval


@dataclass(frozen=True)
class Truth:
    """The labels of the images of the check, or why there are none.

    Attributes:
        present: Whether each image has each label, bool of shape (N, classes); None if the labels are unknown.
        outputs: The model's outputs that these classes are; None for all.
        reason: Why the labels are unknown.
    """

    present: NDArray[np.bool_] | None = None
    outputs: list[int] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Drop:
    """What is lost between two files on the same images, in percentage points.

    Attributes:
        images: Number of images.
        metric: ``top-1`` or ``mAP``.
        before: The float file's metric in percent; None without labels.
        after: The int8 file's.
        interval: 95% interval of the drop of top-1; None for other metrics.
        agreement: Share of images (several labels: of decisions) on which both files agree, in percent.
        judged: The drop that is compared with ``max_drop``.
        basis: How it was found.
    """

    images: int
    metric: str
    before: float | None
    after: float | None
    interval: tuple[float, float] | None
    agreement: float
    judged: float
    basis: str

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        found: dict[str, Any] = {"images": self.images, "metric": self.metric, "agreement": round(self.agreement, 4)}
        if self.before is not None and self.after is not None:
            found |= {"before": round(self.before, 4), "after": round(self.after, 4)}
            found |= {"drop": round(self.before - self.after, 4)}
        if self.interval is not None:
            found["drop_95"] = [round(bound, 4) for bound in self.interval]
        return found | {"judged_drop": round(self.judged, 4), "judged_by": self.basis}

    def lines(self) -> list[str]:
        """Describe it."""
        if self.before is None or self.after is None:
            first = f"{self.agreement:.1f}% of the labels of {count(self.images, 'image')} agree with the float file"
            return [first, f"Drop: {self.judged:.2f} points, {self.basis}"]
        interval = "" if self.interval is None else f" (95%: {self.interval[0]:.2f} to {self.interval[1]:.2f})"
        first = (
            f"{self.metric} on {count(self.images, 'image')}: {self.before:.2f}% in float, {self.after:.2f}% in int8, "
            f"a drop of {self.before - self.after:.2f} points{interval}; {self.agreement:.1f}% of the labels agree"
        )
        return [first] if self.basis == MEASURED else [first, f"Drop that counts: {self.judged:.2f}, {self.basis}"]


@dataclass(frozen=True)
class Limits:
    """What an int8 file must keep.

    Attributes:
        max_drop: The largest drop that is accepted, in points.
        min_agreement: The smallest share of labels that agree, in percent; None for any.
    """

    max_drop: float
    min_agreement: float | None = None

    def excess(self, drop: Drop) -> float:
        """Return by how many points a file is beyond the limits; 0 or less if it is accepted, NaN if that is unknown.

        Args:
            drop: What it loses.
        """
        over = drop.judged - self.max_drop
        return over if self.min_agreement is None else max(over, self.min_agreement - drop.agreement)

    def accepts(self, drop: Drop) -> bool:
        """Return whether a file is within the limits.

        Args:
            drop: What it loses.
        """
        return self.excess(drop) <= 0

    def __str__(self) -> str:
        """Name them as on the command line."""
        others = "" if self.min_agreement is None else f" and --min_agreement {self.min_agreement:g}"
        return f"--max_drop {self.max_drop:g}{others}"


MEASURED = "measured"
_EXPECTED = "expected from the float file's probabilities"
_DECISIONS = "of decisions, since no image has a label"
_AGAINST_FLOAT = "of mAP, taking the float file's labels for the truth"


class Judge:
    """Compares the probabilities of an int8 file with those of the float file.

    Args:
        expected: Probabilities of the float file, shape (N, classes).
        truth: The labels.
        multi_label: Whether an image may have several labels.
        thresholds: The probability from which on each label is present; None for one half.
        max_drop: The drop that is accepted, in points.
    """

    def __init__(
        self,
        expected: NDArray[np.float32],
        truth: Truth,
        *,
        multi_label: bool,
        thresholds: Sequence[float] | None,
        max_drop: float,
    ) -> None:
        self._outputs = truth.outputs
        limits = np.asarray(thresholds or [0.5], np.float32)
        self._limits = limits if truth.outputs is None or len(limits) == 1 else limits[truth.outputs]
        self._expected = self._restricted(expected)
        self._truth, self._multi_label, self._max_drop = truth.present, multi_label, max_drop

    @property
    def is_coarse(self) -> bool:
        """Whether a single image changes top-1 by more than the accepted drop."""
        return self._truth is not None and not self._multi_label and 100 / len(self._expected) > self._max_drop

    def drop(self, scores: NDArray[np.float32]) -> Drop:
        """Return what an int8 file loses.

        Args:
            scores: Its probabilities, shape (N, classes).
        """
        found = self._restricted(scores)
        return self._several(found) if self._multi_label else self._single(found)

    def _restricted(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        return scores if self._outputs is None else scores[:, self._outputs]

    def _single(self, found: NDArray[np.float32]) -> Drop:
        rows = np.arange(len(found))
        ours, theirs = found.argmax(axis=1), self._expected.argmax(axis=1)
        # what the float file itself expects to lose where the labels differ
        expected = 100 * float((self._expected[rows, theirs] - self._expected[rows, ours]).mean())
        agreement = 100 * float((ours == theirs).mean())
        if self._truth is None:
            return Drop(len(found), "top-1", None, None, None, agreement, expected, _EXPECTED)
        before, after = self._truth[rows, theirs], self._truth[rows, ours]
        metrics = 100 * float(before.mean()), 100 * float(after.mean())
        lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
        interval = paired_interval(lost, gained, len(found))
        judged, basis = metrics[0] - metrics[1], MEASURED
        if self.is_coarse:
            needed = math.ceil(100 / self._max_drop)
            judged, basis = expected, f"{_EXPECTED}, since one image is {100 / len(found):.1f} points; give {needed:,}"
        return Drop(len(found), "top-1", *metrics, interval, agreement, judged, basis)

    def _several(self, found: NDArray[np.float32]) -> Drop:
        labels = self._expected >= self._limits
        agreement = 100 * float((labels == (found >= self._limits)).mean())
        if self._truth is None and not labels.any():
            return Drop(len(found), "mAP", None, None, None, agreement, 100 - agreement, _DECISIONS)
        if self._truth is None:
            judged = 100 * (1 - mean_average_precision(found, labels))
            return Drop(len(found), "mAP", None, None, None, agreement, judged, _AGAINST_FLOAT)
        before, after = (100 * mean_average_precision(one, self._truth) for one in (self._expected, found))
        return Drop(len(found), "mAP", before, after, None, agreement, before - after, MEASURED)


def paired_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """Return the 95% interval of a difference of two paired shares, in points (Agresti and Min 2005).

    Args:
        lost: Images that only the first got right.
        gained: Images that only the second got right.
        images: Number of images.
    """
    total, only_first, only_second = images + 2, lost + 0.5, gained + 0.5
    difference = (only_first - only_second) / total
    error = np.sqrt((only_first + only_second) / total - difference**2) / np.sqrt(total)
    return 100 * float(difference - _WIDTH * error), 100 * float(difference + _WIDTH * error)


def mean_average_precision(scores: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """Return the mean average precision over the labels that any image has; 1 if none has any.

    Args:
        scores: Shape (N, classes).
        present: The true labels, shape (N, classes).
    """
    found = []
    for one, truth in zip(scores.T, present.T, strict=True):
        if truth.any():
            order = np.argsort(-one, kind="stable")
            # images with the same score are ranked together
            last = np.append(np.diff(one[order]) != 0, True)
            hits, ranks = np.cumsum(truth[order])[last], np.arange(1, len(one) + 1)[last]
            gains = np.diff(hits, prepend=0)
            found.append(float((gains * hits / ranks).sum() / hits[-1]))
    return float(np.mean(found)) if found else 1.0
