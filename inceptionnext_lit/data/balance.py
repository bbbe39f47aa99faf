"""Class imbalance: weights in the loss, and the images that a balanced sampler draws from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.sample_table import Sample, Samples
from inceptionnext_lit.errors import UserError

ClassWeights = Literal["auto"] | dict[str, float]


@dataclass(frozen=True)
class BalanceOptions:
    """How training compensates for classes of unequal size.

    Attributes:
        class_weights: ``auto`` for classes with equal weight in the loss, regardless of their number of images; or
            weights by class name. ``None``: all images have equal weight.
        sampler: ``shuffled`` uses each training image once per epoch; ``balanced`` draws all classes equally often.
    """

    class_weights: ClassWeights | None = None
    sampler: Literal["shuffled", "balanced"] = "shuffled"

    def __post_init__(self) -> None:
        check_choices(self, "data.balance")

    def warn_of_both(self) -> None:
        """Warn if both options are on, since each compensates for rare classes by itself."""
        if self.class_weights == "auto" and self.sampler == "balanced":
            rank_zero_warn(
                "data.balance.sampler balanced and data.balance.class_weights auto both compensate for rare classes; "
                "together, they overcompensate. Choose one of them."
            )


def image_weights(
    samples: Sequence[Sample], classes: Sequence[str], class_weights: ClassWeights | None
) -> NDArray[np.float64] | None:
    """Compute the weight of each image in the loss: its own times its class's, scaled to a mean of 1.

    The loss of a batch is the mean of weight times loss over its images. It does not depend on the other images of the
    batch, so it is the same on any number of ranks.

    Args:
        samples: The training images.
        classes: The class names in index order.
        class_weights: ``"auto"`` for the inverse of the class's number of images; or weights by name, 1 for the other
            classes. An image with several labels gets the mean of their weights.

    Returns:
        A weight per image, (N,); None if all are equal.

    Raises:
        UserError: If a named class does not exist, or a weight is not above 0.
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
    """Return the indices of the images with each label; images without a label form a last class of their own."""
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
                f"data.balance.class_weights names {unknown[0]!r}, which is not one of the classes: "
                f"{enumerate_names(classes)}."
            )
        if low := [name for name, weight in class_weights.items() if not 0 < weight < float("inf")]:
            weight = class_weights[low[0]]
            raise UserError(f"data.balance.class_weights.{low[0]} is {weight}; it must be a number above 0.")
        return np.array([class_weights.get(name, 1.0) for name in classes], dtype=np.float64)
    counts = np.bincount(samples.labels, minlength=len(classes))
    return np.where(counts > 0, len(samples) / (len(classes) * np.maximum(counts, 1)), 1.0)
