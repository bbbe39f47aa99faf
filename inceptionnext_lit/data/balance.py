"""Unequal classes: weights in the loss, and which images a balanced sampler draws from."""

from collections.abc import Mapping, Sequence
from typing import Literal

from inceptionnext_lit.data.samples import Sample, count_labels, labels_of
from inceptionnext_lit.errors import UserError

ClassWeights = Literal["auto"] | dict[str, float]


def image_weights(
    samples: Sequence[Sample], classes: Sequence[str], class_weights: ClassWeights | None
) -> list[float] | None:
    """How much each image counts in the loss: its own weight times its class's, with a mean of 1 over all images.

    The loss of a batch is the mean over its images of weight times loss. Nothing in it depends on the other images of
    the batch, so that it is the same on any number of processes.

    Args:
        samples: The training images.
        classes: The class names in index order.
        class_weights: ``"auto"`` for the inverse of the class's number of images; or a weight by name, 1 for those that
            are not named. An image with several labels has their mean.

    Returns:
        A weight for each image; None where all count the same.

    Raises:
        UserError: If a class that is named does not exist, or a weight is not above 0.
    """
    of_class = _of_classes(samples, classes, class_weights)
    if of_class is None and all(sample.weight == 1 for sample in samples):
        return None
    weights = []
    for sample in samples:
        labels = labels_of(sample)
        shares = [1.0 if of_class is None else of_class[label] for label in labels]
        weights.append(sample.weight * (sum(shares) / len(shares) if shares else 1.0))
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]


def images_by_class(samples: Sequence[Sample], num_classes: int) -> list[list[int]]:
    """The indices of the images that have each label; those without any are last, as a class of their own."""
    classes: list[list[int]] = [[] for _ in range(num_classes + 1)]
    for index, sample in enumerate(samples):
        for label in labels_of(sample) or (num_classes,):
            classes[label].append(index)
    return classes


def _of_classes(
    samples: Sequence[Sample], classes: Sequence[str], class_weights: ClassWeights | None
) -> list[float] | None:
    if class_weights is None:
        return None
    if isinstance(class_weights, Mapping):
        if unknown := [name for name in class_weights if name not in classes]:
            raise UserError(
                f"data.class_weights names {unknown[0]!r}, which is none of the classes: {', '.join(classes)}."
            )
        if low := [name for name, weight in class_weights.items() if not 0 < weight < float("inf")]:
            raise UserError(f"data.class_weights.{low[0]} is {class_weights[low[0]]}; it must be a number above 0.")
        return [float(class_weights.get(name, 1.0)) for name in classes]
    counts = count_labels(samples, len(classes))
    return [len(samples) / (len(classes) * count) if count else 1.0 for count in counts]
