"""The cells of a transfer table, and their results on disk, each kept for ever."""

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from inceptionnext_lit.reports.transfer.scores import Metric
from inceptionnext_lit.safe_save import replacing

Protocol = Literal["finetune", "linear", "knn"]
PROTOCOLS: tuple[Protocol, ...] = ("finetune", "linear", "knn")
FOLDER = "cells"


@dataclass(frozen=True)
class Result:
    """The result of one run of a cell.

    Attributes:
        value: The metric on the test images, a fraction.
        seconds: Duration, without the features.
        details: Chosen settings and counts.
        notes: Remarks for readers of the table, without a period.
    """

    value: float
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A model on a data set under a protocol.

    Attributes:
        model: The model's title.
        data: The data set's title.
        protocol: The protocol.
        metric: The data set's metric.
        results: The results of its runs, one per seed; a single one if no seed has an effect; empty if unknown.
        failure: Why it has no results, if it failed.
    """

    model: str
    data: str
    protocol: Protocol
    metric: Metric
    results: Sequence[Result] = ()
    failure: str | None = None

    @property
    def mean(self) -> float | None:
        """The mean over the runs."""
        return statistics.fmean(one.value for one in self.results) if self.results else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the runs; None for a single run."""
        return statistics.stdev(one.value for one in self.results) if len(self.results) > 1 else None

    @property
    def notes(self) -> list[str]:
        """The runs' remarks, each once."""
        return list(dict.fromkeys(note for one in self.results for note in one.notes))


class ResultFiles:
    """Results by everything that they depend on, one JSON file each.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def read(self, key: Mapping[str, Any]) -> Result | None:
        """Return a result; None if it is not there, or cannot be read.

        Args:
            key: What it depends on, as plain data.
        """
        try:
            content = json.loads(self._path(key).read_text(encoding="utf-8"))
            result = Result(**content["result"])
            return result if content["key"] == _plain(key) and math.isfinite(result.value) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, key: Mapping[str, Any], result: Result) -> None:
        """Keep a result."""
        with replacing(self._path(key)) as partial:
            content = {"key": _plain(key), "result": asdict(result)}
            partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._folder / f"{short_hash(key)}.json"


def short_hash(key: Mapping[str, Any]) -> str:
    """Return a name for what a key describes, the same on every machine."""
    return hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()[:20]


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(key))
