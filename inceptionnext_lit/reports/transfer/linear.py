"""Logistic regression on features, with the penalty chosen on validation images (arXiv 1805.08974)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import usable_cores
from inceptionnext_lit.reports.transfer.scores import Metric, Targets, measure

PENALTIES: tuple[float, ...] = tuple(np.logspace(5, -6, 45).tolist())
"""L2 penalties on the sum of the images' losses, from the strongest."""
MAX_ITERATIONS = 1000
_PER_THREAD = 1e9  # operations of an iteration; with less work, threads wait for one another

Features = NDArray[np.floating]


@dataclass(frozen=True)
class LinearFit:
    """A logistic regression with the best penalty.

    Attributes:
        scores: Logits of the test images, (M, K).
        penalty: The chosen penalty.
        selection: The metric on the validation images by penalty, in the order of ``PENALTIES``.
        iterations: L-BFGS's iterations of the final fit; the most of any label.
        converged: Whether the final fit converged.
        unconverged: Number of the penalties whose fit did not.
    """

    scores: NDArray[np.float64]
    penalty: float
    selection: tuple[float, ...]
    iterations: int
    converged: bool
    unconverged: int


class Regression:
    """A multinomial logistic regression, or one per label if images have several.

    Each fit starts from the previous one's solution. The features are not standardized, and the intercept is not
    penalized.

    Args:
        num_classes: Number of classes K.
        max_iter: Maximum number of L-BFGS's iterations per fit.
    """

    def __init__(self, num_classes: int, max_iter: int = MAX_ITERATIONS) -> None:
        self._num_classes = num_classes
        self._max_iter = max_iter
        self._models: list[Any] = []

    def fit(self, features: Features, targets: Targets, penalty: float) -> tuple[bool, int]:
        """Fit to images.

        Args:
            features: Shape (N, D).
            targets: Classes, (N,) or (N, K).
            penalty: The L2 penalty.

        Returns:
            Whether L-BFGS converged, and its iterations.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        columns = [targets] if targets.ndim == 1 else list(targets.T)
        if not self._models:
            varied = [len(np.unique(column)) > 1 for column in columns]
            new = {"solver": "lbfgs", "max_iter": self._max_iter, "warm_start": True}
            self._models = [LogisticRegression(**new) if varies else None for varies in varied]
        iterations = 0
        with warnings.catch_warnings(record=True) as caught, _threads(features, self._num_classes):
            warnings.simplefilter("always", ConvergenceWarning)
            for model, column in zip(self._models, columns, strict=True):
                if model is not None:
                    model.C = 1 / penalty
                    model.fit(features, column)
                    iterations = max(iterations, int(model.n_iter_.max()))
        return not any(issubclass(one.category, ConvergenceWarning) for one in caught), iterations

    def scores(self, features: Features) -> NDArray[np.float64]:
        """Return logits, (N, K); those of a class without training images are -inf, of a constant label 0."""
        if len(self._models) == 1:
            [model] = self._models
            logits = model.decision_function(features)
            if logits.ndim == 1:  # of two classes, the second one's
                logits = np.stack([np.zeros_like(logits), logits], axis=1)
            found = np.full((len(features), self._num_classes), -np.inf)
            found[:, model.classes_] = logits
            return found
        found = np.zeros((len(features), self._num_classes))
        for label, model in enumerate(self._models):
            if model is not None:
                found[:, label] = model.decision_function(features)
        return found


def fit_best(
    metric: Metric,
    num_classes: int,
    train: tuple[Features, Targets],
    val: tuple[Features, Targets],
    test: Features,
    max_iter: int = MAX_ITERATIONS,
) -> LinearFit:
    """Choose the penalty on validation images, then fit to training and validation images.

    Of equally good penalties, the strongest is chosen.

    Args:
        metric: What to choose by.
        num_classes: Number of classes K.
        train: Features (N, D) and classes of the training images.
        val: Those of the validation images.
        test: Features of the test images.
        max_iter: Maximum number of L-BFGS's iterations per penalty.

    Raises:
        UserError: If the training images have a single class.
    """
    both = tuple(np.concatenate([mine, other]) for mine, other in zip(train, val, strict=True))
    if len(np.unique(train[1])) < 2:
        raise UserError("The training images have a single class, and a classifier needs two.")
    path, selection, unconverged = Regression(num_classes, max_iter), [], 0
    features = _double(train[0]), _double(val[0])
    for penalty in PENALTIES:
        unconverged += not path.fit(features[0], train[1], penalty)[0]
        selection.append(measure(metric, path.scores(features[1]), val[1]))
    penalty = PENALTIES[int(np.argmax(selection))]
    del features
    final = Regression(num_classes, max_iter)
    converged, iterations = final.fit(_double(both[0]), both[1], penalty)
    return LinearFit(final.scores(_double(test)), penalty, tuple(selection), iterations, converged, unconverged)


def _double(features: Features) -> NDArray[np.float64]:
    """Return features in double precision: in single precision, the line search ends before weak penalties converge."""
    return features.astype(np.float64)


@contextmanager
def _threads(features: Features, num_classes: int) -> Iterator[None]:
    """Limit the threads of linear algebra to those that the work is enough for.

    Threads that wait for one another make small fits on a busy machine ten times as slow.
    """
    from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

    work = 4 * features.size * num_classes
    with threadpool_limits(limits=int(min(usable_cores(), max(1, work // _PER_THREAD)))):
        yield
