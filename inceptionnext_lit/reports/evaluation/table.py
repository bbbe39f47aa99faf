"""Predictions of a classifier for labeled images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[Any]


@dataclass(frozen=True)
class PredictionTable:
    """Predictions of a classifier for N labeled images and K classes.

    Attributes:
        class_names: Class names in index order.
        paths: The N files.
        labels: The class of each image, int64 (N,); for several labels, whether an image has each, bool (N, K).
        logits: float32 (N, K). One label per image: logarithms of the probabilities. Several: logarithms of the odds.
        splits: Name of each image's split; empty if unknown.
        groups: Group of each image, whose images are resampled together; None without groups.
        folds: Fold of a cross-validation that held each image back, int64 (N,); None without folds.
        thresholds: The probability from which on each label is present, (K,), if an image may have several labels; None
            for one half.
        columns: Other properties of the images by name: text, or numbers with NaN where unknown.
    """

    class_names: list[str]
    paths: Sequence[str]
    labels: Labels
    logits: Floats
    splits: Sequence[str] = ()
    groups: Sequence[str] | None = None
    folds: NDArray[np.int64] | None = None
    thresholds: Sequence[float] | None = None
    columns: Mapping[str, Sequence[str] | NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @cached_property
    def probabilities(self) -> Floats:
        """Probability of each class, float32 (N, K)."""
        if not self.multi_label:
            return np.exp(self.logits)
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-self.logits))).astype(np.float32)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether each label reaches its threshold, bool (N, K)."""
        limits = [0.5] if self.thresholds is None else self.thresholds
        present: NDArray[np.bool_] = self.probabilities >= np.array(limits, dtype=np.float32)
        return present

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, int64 (N,)."""
        predicted: NDArray[np.int64] = self.logits.argmax(axis=1)
        return predicted

    @cached_property
    def confidences(self) -> Floats:
        """Probability of the most probable class, float32 (N,)."""
        return self.probabilities[np.arange(len(self)), self.predicted]

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Cross-entropy of each image; for several labels, the mean over labels of the binary one, float64 (N,)."""
        if not self.multi_label:
            return -self.logits[np.arange(len(self)), self.labels].astype(np.float64)
        logits = self.logits.astype(np.float64)
        # log(1 + exp(x)) - x * y
        losses: NDArray[np.float64] = (np.logaddexp(0, logits) - logits * self.labels).mean(axis=1)
        return losses

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of the true class by probability, from 1, int64 (N,); classes that tie rank in index order.

        Only for one label per image.
        """
        true = self.logits[np.arange(len(self)), self.labels][:, None]
        before = np.arange(len(self.class_names)) < self.labels[:, None]
        ranks: NDArray[np.int64] = 1 + ((self.logits > true) | ((self.logits == true) & before)).sum(axis=1)
        return ranks

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> "PredictionTable":
        """Select images by indices or by a mask."""
        mask_or_indices = np.asarray(which)
        chosen = np.flatnonzero(mask_or_indices) if mask_or_indices.dtype == np.bool_ else mask_or_indices
        columns = {
            name: values[chosen] if isinstance(values, np.ndarray) else [values[i] for i in chosen.tolist()]
            for name, values in self.columns.items()
        }
        return replace(
            self,
            paths=[self.paths[i] for i in chosen.tolist()],
            labels=self.labels[chosen],
            logits=self.logits[chosen],
            splits=[self.splits[i] for i in chosen.tolist()] if len(self.splits) else (),
            groups=None if self.groups is None else [self.groups[i] for i in chosen.tolist()],
            folds=None if self.folds is None else self.folds[chosen],
            columns=columns,
        )

    def scaled(self, temperature: float) -> "PredictionTable":
        """Return the predictions with logits divided by a temperature, as log-probabilities again.

        Args:
            temperature: Greater than 0; above 1, probabilities become less extreme.
        """
        logits = self.logits.astype(np.float64) / temperature
        return replace(self, logits=(logits if self.multi_label else log_softmax(logits)).astype(np.float32))


def concatenate(tables: Sequence[PredictionTable]) -> PredictionTable:
    """Return the predictions of several tables as one.

    Args:
        tables: Tables with the same classes and the same columns.
    """
    first = tables[0]
    columns: dict[str, Sequence[str] | NDArray[np.float64]] = {}
    for name in first.columns:
        parts = [table.columns[name] for table in tables]
        is_number = all(isinstance(part, np.ndarray) for part in parts)
        columns[name] = np.concatenate(parts) if is_number else [str(one) for part in parts for one in part]
    return replace(
        first,
        paths=[path for table in tables for path in table.paths],
        labels=np.concatenate([table.labels for table in tables]),
        logits=np.concatenate([table.logits for table in tables]),
        splits=[split for table in tables for split in table.splits],
        groups=None if first.groups is None else [group for table in tables for group in table.groups or ()],
        folds=None if first.folds is None else np.concatenate([np.asarray(table.folds) for table in tables]),
        columns=columns,
    )


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities of logits (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalized: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized
