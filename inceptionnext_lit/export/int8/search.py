"""Find the layers that int8 hurts, and leave them in floats until the drop is accepted."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Session
from inceptionnext_lit.export.int8.accuracy import MEASURED, Drop, Judge, Limits
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.export.int8.quantizer import Quantizer
from inceptionnext_lit.export.int8.scores import Scorer, relative_error

_PROBED = 64  # images that layers are compared on
_MOST_FLOATS = 0.5  # of the layers; with more, int8 is of no use


@dataclass(frozen=True)
class Sensitivity:
    """What a layer costs if it alone is in int8.

    Attributes:
        layer: Its name.
        error: Difference of the logits from the float file's, relative to the logits.
        labels: Number of images with another label.
    """

    layer: str
    error: float
    labels: int


@dataclass(frozen=True)
class Smoothing:
    """What SmoothQuant changed, with all layers in int8.

    Attributes:
        without: What the file loses without it.
        drop: What it loses with it; None if there is no such file.
        is_used: Whether the file that was accepted has it.
    """

    without: Drop
    drop: Drop | None
    is_used: bool

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = None if self.drop is None else self.drop.record()
        return {"used": self.is_used, "without": self.without.record(), "with": found}


@dataclass(frozen=True)
class Found:
    """The int8 file that was accepted.

    Attributes:
        quantizer: What wrote it.
        drop: What it loses.
        first: What the file with all layers in int8 loses, with or without SmoothQuant like this one.
        smoothing: What SmoothQuant changed; None if it was not tried.
        floats: The layers that were left in floats.
        table: All layers, the most sensitive first; empty if all are in int8.
        images: Number of images that the table was made on.
    """

    quantizer: Quantizer
    drop: Drop
    first: Drop
    smoothing: Smoothing | None = None
    floats: tuple[str, ...] = ()
    table: tuple[Sensitivity, ...] = ()
    images: int = 0

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        found: dict[str, Any] = self.drop.record() | {"float_layers": list(self.floats)}
        if self.smoothing is not None:
            found["smoothing"] = self.smoothing.record()
        if self.table:
            found["all_layers_in_int8"] = self.first.record()
            found["sensitivity"] = [
                {"layer": one.layer, "logits_error": round(one.error, 6), "labels_changed": one.labels}
                for one in self.table
            ]
        return found


class Search:
    """Writes int8 files and measures them.

    Args:
        quantizer: Writes files.
        open_session: Loads a file.
        scorer: Computes probabilities.
        judge: Compares them.
        check: The images of the accuracy check.
        probed: Other images, which layers are compared on.
        expected: The float file's probabilities for these.
        say: Called with lines on the progress.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        open_session: Callable[[Path], Session],
        scorer: Scorer,
        judge: Judge,
        check: FileImages,
        probed: FileImages,
        float_session: Session,
        *,
        multi_label: bool,
        say: Callable[[str], object],
    ) -> None:
        self._quantizer, self._open_session = quantizer, open_session
        self._scorer, self._judge, self._check = scorer, judge, check
        self._probed, self._multi_label, self._say = probed.first(_PROBED), multi_label, say
        self._float_session = float_session

    def run(self, file: Path, limits: Limits) -> Found:
        """Write an int8 file that is within the limits.

        Args:
            file: The file.
            limits: What it must keep.

        Raises:
            UserError: If half of the layers had to stay in floats; the message has the table.
        """
        quantizer, layers = self._quantizer, list(self._quantizer.layers)
        first, smoothing = self._measured(file, quantizer, layers), None
        if limits.accepts(first):
            return Found(quantizer, first, first)
        self._say(f"With all {len(layers)} layers in int8: {'; '.join(first.lines())}")
        if (smoothed := quantizer.smoothed) is not None:
            smoothing = self._smooth(file, smoothed, first, limits)
            if smoothing.is_used and smoothing.drop is not None:
                quantizer, first = smoothed, smoothing.drop
        if limits.accepts(first):
            return Found(quantizer, first, first, smoothing)
        table = self._sensitivities(file, quantizer)
        for line in table_lines(table, len(self._probed)):
            self._say(line)
        for number in steps(int(len(layers) * _MOST_FLOATS)):
            floats = tuple(one.layer for one in table[:number])
            drop = self._measured(file, quantizer, [layer for layer in layers if layer not in floats])
            self._say(f"{number} of {len(layers)} layers in floats: {in_short(drop)}")
            if limits.accepts(drop):
                return Found(quantizer, drop, first, smoothing, floats, table, len(self._probed))
        file.unlink()
        raise UserError(
            f"int8 has {in_short(first)}, and is not within {limits} with half of the layers in floats either; nothing "
            "was written. Give more calibration images, or other limits. The most sensitive layers: "
            + ", ".join(f"{one.layer} ({one.error:.3f})" for one in table[:5])
            + "."
        )

    def confirm(self, found: Found, session: Session, limits: Limits) -> Found:
        """Measure the file of another format that has the same layers in int8.

        Args:
            found: The file that was accepted.
            session: The other one.
            limits: What it must keep.

        Raises:
            UserError: If it loses more.
        """
        drop = self._judge.drop(self._scorer.scores(session, self._check))
        if not limits.accepts(drop):
            raise UserError(
                f"The compiled file has {in_short(drop)}, not within {limits}, and its graph {in_short(found.drop)}; "
                "nothing was written. Give other limits, or another --format."
            )
        return replace(found, drop=drop)

    def _smooth(self, file: Path, smoothed: Quantizer, without: Drop, limits: Limits) -> Smoothing:
        try:
            drop = self._measured(file, smoothed, smoothed.layers)
        except UserError as error:
            self._say(f"SmoothQuant is not used: {error}")
            return Smoothing(without, None, is_used=False)
        is_better = limits.excess(drop) < limits.excess(without)
        if limits.accepts(drop):
            result = "accepted"
        elif is_better:
            result = "better, so the search for sensitive layers starts with it"
        else:
            result = "not better, so it is not used"
        self._say(f"With SmoothQuant: {'; '.join(drop.lines())}: {result}")
        return Smoothing(without, drop, is_used=is_better)

    def _measured(self, file: Path, quantizer: Quantizer, layers: Collection[str]) -> Drop:
        quantizer.write(file, layers)
        return self._judge.drop(self._scorer.scores(self._open_session(file), self._check))

    def _sensitivities(self, file: Path, quantizer: Quantizer) -> tuple[Sensitivity, ...]:
        expected = self._scorer.scores(self._float_session, self._probed)
        found = []
        for layer in quantizer.layers:
            quantizer.write(file, [layer])
            scores = self._scorer.scores(self._open_session(file), self._probed)
            error = relative_error(scores, expected, multi_label=self._multi_label)
            found.append(Sensitivity(layer, error, self._changed(scores, expected)))
        return tuple(sorted(found, key=lambda one: -one.error))

    def _changed(self, scores: NDArray[np.float32], expected: NDArray[np.float32]) -> int:
        if self._multi_label:
            return int(((scores >= 0.5) != (expected >= 0.5)).any(axis=1).sum())
        return int((scores.argmax(axis=1) != expected.argmax(axis=1)).sum())


def in_short(drop: Drop) -> str:
    """Return a drop and the agreement as a part of a sentence.

    Args:
        drop: What a file loses.
    """
    how = "" if drop.basis == MEASURED else f" ({drop.basis})"
    return f"a drop of {drop.judged:.2f} points{how}, {drop.agreement:.1f}% of the labels agreeing"


def steps(most: int) -> list[int]:
    """Return numbers of layers to leave in floats, from 1 to the most, each about a quarter larger than the one before.

    Args:
        most: The last one.
    """
    found: list[int] = []
    number = 1
    while number < most:
        found.append(number)
        number += max(1, number // 4)
    return [*found, most] if most > 0 else []


def table_lines(table: Sequence[Sensitivity], images: int) -> list[str]:
    """Return a sensitivity table as lines of text.

    Args:
        table: The layers.
        images: Number of images that it was made on.
    """
    width = max(len(one.layer) for one in table)
    head = f"{'layer in int8 alone':<{width}}  logits differ by  labels changed of {images}"
    return [head, *(f"{one.layer:<{width}}  {one.error:>16.4f}  {one.labels:>14d}" for one in table)]
