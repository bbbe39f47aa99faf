"""Unequal classes: weights in the loss, and which images a balanced sampler draws from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.sample_table import Sample, Samples
from inceptionnext_lit.errors import UserError

ClassWeights = Literal["auto"] | dict[str, float]


@dataclass(frozen=True)
class BalanceOptions:
    """What makes up for classes of unequal size in training.

    Attributes:
        class_weights: ``auto`` for classes that count the same in the loss, however many images they have; or weights
            by class name. ``None``: every image counts the same.
        sampler: ``shuffled`` uses each training image once an epoch; ``balanced`` draws the classes equally often.
    """

    class_weights: ClassWeights | None = None
    sampler: Literal["shuffled", "balanced"] = "shuffled"

    def warn_of_both(self) -> None:
        """Warn where both are on, each of which makes up for rare classes by itself."""
        if self.class_weights == "auto" and self.sampler == "balanced":
            rank_zero_warn(
                "data.balance.sampler balanced and data.balance.class_weights auto both make up for rare classes; used "
                "together, they overcompensate. Choose one of them."
            )


def image_weights(
    samples: Sequence[Sample], classes: Sequence[str], class_weights: ClassWeights | None
) -> NDArray[np.float64] | None:
    """How much each image counts in the loss: its own weight times its class's, with a mean of 1 over all images.

    The loss of a batch is the mean over its images of weight times loss. Nothing in it depends on the other images of
    the batch, so that it is the same on any number of processes.

    Args:
        samples: The training images.
        classes: The class names in index order.
        class_weights: ``"auto"`` for the inverse of the class's number of images; or a weight by name, 1 for those that
            are not named. An image with several labels has their mean.

    Returns:
        A weight for each image, (N,); None where all count the same.

    Raises:
        UserError: If a class that is named does not exist, or a weight is not above 0.
    """
    images = Samples.of(samples)
    of_class = _of_classes(images, classes, class_weights)
    weights = np.ones(len(images)) if images.weights is None else images.weights
    if of_class is None and (weights == 1).all():
        return None
    if of_class is not None:
        owners = images.owners()
        sums = np.bincount(owners, of_class[images.labels], minlength=len(images))
        counts = np.bincount(owners, minlength=len(images))
        weights = weights * np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def images_by_class(samples: Sequence[Sample], num_classes: int) -> list[list[int]]:
    """The indices of the images that have each label; those without any are last, as a class of their own."""
    images = Samples.of(samples)
    owners = images.owners()
    by_label = owners[np.argsort(images.labels, kind="stable")]
    counts = np.bincount(images.labels, minlength=num_classes)
    parts = np.split(by_label, np.cumsum(counts)[:-1])
    without = np.flatnonzero(np.bincount(owners, minlength=len(images)) == 0)
    return [part.tolist() for part in [*parts, without]]


def _of_classes(
    samples: Samples, classes: Sequence[str], class_weights: ClassWeights | None
) -> NDArray[np.float64] | None:
    if class_weights is None:
        return None
    if isinstance(class_weights, Mapping):
        known = set(classes)
        if unknown := [name for name in class_weights if name not in known]:
            raise UserError(
                f"data.balance.class_weights names {unknown[0]!r}, which is none of the classes: "
                f"{enumerate_names(classes)}."
            )
        if low := [name for name, weight in class_weights.items() if not 0 < weight < float("inf")]:
            weight = class_weights[low[0]]
            raise UserError(f"data.balance.class_weights.{low[0]} is {weight}; it must be a number above 0.")
        return np.array([class_weights.get(name, 1.0) for name in classes], dtype=np.float64)
    counts = np.bincount(samples.labels, minlength=len(classes))
    return np.where(counts > 0, len(samples) / (len(classes) * np.maximum(counts, 1)), 1.0)
