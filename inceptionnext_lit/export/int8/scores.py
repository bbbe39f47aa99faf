"""The probabilities that exported files give, and their speed."""

import time
from collections.abc import Mapping
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Session
from inceptionnext_lit.export.int8.images import FileImages
from inceptionnext_lit.tasks import ClassificationTask

BATCH = 16
_LEAST = 1e-12  # probabilities below it are last digits
_ROUNDS, _SECONDS = 7, 0.3


class Scorer:
    """Computes probabilities with exported files.

    Args:
        task: The classifier.
        is_tensor: Whether the files return logits.
        batch: Images that they take at once.
    """

    def __init__(self, task: ClassificationTask, *, is_tensor: bool, batch: int) -> None:
        self._task, self._is_tensor, self.batch = task, is_tensor, batch

    def scores(self, session: Session, images: FileImages) -> NDArray[np.float32]:
        """Return the probabilities of images, shape (N, classes).

        Args:
            session: The file.
            images: The images.

        Raises:
            UserError: If one is NaN or infinite.
        """
        found = np.empty((len(images), self._task.num_classes), np.float32)
        for places, batch in images.batches(self.batch):
            found[places] = np.asarray(session.run(batch)[0], np.float32)
        if self._is_tensor:
            found = self._task.scores(torch.from_numpy(found)).numpy()
        if not np.isfinite(found).all():
            lost = images.paths[int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])]
            raise UserError(f"The outputs of the exported file are NaN or infinite for {lost}; choose another image.")
        return found


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32], *, multi_label: bool) -> float:
    """Return the difference of the logits of two files, relative to the logits.

    Args:
        found: Probabilities of one file, shape (N, classes).
        expected: Those of the other.
        multi_label: Whether an image may have several labels.
    """
    ours, theirs = (_logits(one, multi_label=multi_label) for one in (found, expected))
    return float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-12))


def _logits(scores: NDArray[np.float32], *, multi_label: bool) -> NDArray[np.float64]:
    bounded = np.clip(scores.astype(np.float64), _LEAST, 1.0 - _LEAST)
    if multi_label:
        return np.asarray(np.log(bounded) - np.log1p(-bounded))
    logs = np.log(bounded)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))  # up to a constant of each image


def speeds(sessions: Mapping[str, Session], batch: NDArray[np.generic]) -> dict[str, float]:
    """Return the images per second of files, measured in turn; the median of the rounds.

    Args:
        sessions: The files by their names.
        batch: The images.
    """
    rates: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.run(batch)  # the first batch allocates memory
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            done, start = 0, time.perf_counter()
            while done == 0 or time.perf_counter() - start < _SECONDS:
                session.run(batch)
                done += len(batch)
            rates[name].append(done / (time.perf_counter() - start))
    return {name: median(found) for name, found in rates.items()}
