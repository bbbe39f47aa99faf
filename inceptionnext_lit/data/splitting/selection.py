"""Selection of held-back samples, folds and few-shot subsets.

The draws depend only on a seed and each image's path below the data folder, so the result is the same on every machine,
and almost the same when images are added.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.sample_table import Indices, Sample, Samples
from inceptionnext_lit.data.sources.scan import is_rank_zero
from inceptionnext_lit.data.splitting.draws import draw_keys, order_by
from inceptionnext_lit.data.splitting.units import deal_units, hold_units, join_groups
from inceptionnext_lit.errors import UserError

Split = tuple[Samples, Samples]
"""Training and validation samples."""


def hold_back(
    samples: Sequence[Sample],
    root: Path,
    fraction: float,
    seed: int,
    classes: Sequence[str],
    together: Indices | None = None,
) -> Split:
    """Split samples into training and validation, class by class.

    Groups are not divided; with groups, the fraction is rounded to the nearest of 1/2, 1/3, 1/4 and so on. A
    multi-label image counts for the rarest of its labels.

    Args:
        samples: The samples of one folder or manifest.
        root: The folder that the paths are relative to.
        fraction: Fraction of each class to hold back, in (0, 1).
        seed: Seed of the split.
        classes: The class names, for messages.
        together: The result of :func:`find_copies`; copies are not divided either.

    Returns:
        The training samples and the validation samples, each in the order of ``samples``.

    Raises:
        UserError: If a class has a single image, or all images of a class are in one group.
    """
    images = Samples.of(samples)
    strata = _strata(images)
    _check_pairs(images, strata, classes, "none can be held back for validation; add images, or name a val split")
    if images.groups is not None:
        share = min(fraction, 1 - fraction)
        of_fold = _grouped(images, strata, max(2, round(1 / share)), root, seed, together) == 0
        return _checked(_divide(images, of_fold if fraction <= 0.5 else ~of_fold), classes)
    numbers, sizes = _number(strata)
    counts = np.minimum(np.maximum((sizes * fraction + 0.5).astype(np.int64), 1), sizes - 1)
    first = np.cumsum(sizes) - sizes
    places = _places(images, numbers, root, seed)
    held = places - first[numbers] < counts[numbers]
    if together is not None:
        whole = hold_units(held, places, numbers, counts, together)
        _warn_of_copies(whole, images, classes)
    return _divide(images, held)


def fold(
    samples: Sequence[Sample],
    root: Path,
    number: int,
    folds: int,
    seed: int,
    classes: Sequence[str],
    together: Indices | None = None,
) -> Split:
    """Split samples for one fold of a cross-validation; every sample is in the validation part of one fold.

    Folds have equal shares of each class, as far as images and groups allow.

    Args:
        samples: The samples of one folder or manifest.
        root: The folder that the paths are relative to.
        number: The fold, from 0.
        folds: Number of folds.
        seed: Seed of the folds.
        classes: The class names, for messages.
        together: The result of :func:`find_copies`; copies are in one fold.

    Raises:
        UserError: If a class has a single image, or all images of a class are in one group.
    """
    images = Samples.of(samples)
    strata = _strata(images)
    _check_pairs(images, strata, classes, f"no {folds} folds can be made; add images")
    if images.groups is not None:
        return _checked(_divide(images, _grouped(images, strata, folds, root, seed, together) == number), classes)
    numbers, _ = _number(strata)
    places = _places(images, numbers, root, seed)
    of_fold = places % folds  # round-robin over all classes, so that uneven classes start at different folds
    if together is not None:
        whole = deal_units(of_fold, places, numbers, folds, together)
        _warn_of_copies(whole, images, classes)
    return _divide(images, of_fold == number)


def few_shot(samples: Sequence[Sample], root: Path, per_class: int, seed: int, classes: Sequence[str]) -> Samples:
    """Select a number of images per class, or all of a class that has fewer, with one warning.

    In a multi-label data set, images are drawn until each label has enough; some labels then have more.

    Args:
        samples: The training samples.
        root: The folder that the paths are relative to.
        per_class: Number of images per class.
        seed: Seed of the selection.
        classes: The class names, for the warning.

    Returns:
        The selected samples, in the order of ``samples``.
    """
    images = Samples.of(samples)
    order = order_by(draw_keys(images, root, f"few-shot {seed}"))
    counts: Counter[int | None] = Counter()
    chosen = np.zeros(len(images), dtype=bool)
    for index in order.tolist():
        labels: tuple[int | None, ...] = images.labels_of(index) or (None,)
        if any(counts[label] < per_class for label in labels):
            counts.update(labels)
            chosen[index] = True
    short = [f"{name} ({counts[index]})" for index, name in enumerate(classes) if counts[index] < per_class]
    if short:
        warnings.warn(f"Classes with fewer than {per_class} training images: {', '.join(short[:20])}.", stacklevel=2)
    return images.take(chosen)


def _strata(images: Samples) -> Indices:
    """Return the class that each image counts for: the rarest of its labels; -1 without labels."""
    counts = np.bincount(images.labels)
    by_rarity = np.lexsort((np.arange(len(counts)), counts))
    ranks = np.empty(len(counts), dtype=np.int64)
    ranks[by_rarity] = np.arange(len(counts))
    rarest = np.full(len(images), len(counts))
    np.minimum.at(rarest, images.owners(), ranks[images.labels])
    strata: Indices = np.append(by_rarity, -1)[rarest]
    return strata


def _number(strata: Indices) -> tuple[Indices, Indices]:
    """Number the strata from 0 in order of appearance; return the number of each image, and the sizes."""
    _, first, inverse, sizes = np.unique(strata, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[inverse], sizes[order]


def _places(images: Samples, numbers: Indices, root: Path, seed: int) -> Indices:
    """Return the position of each image when sorted by stratum, in random order within each."""
    places = np.empty(len(images), dtype=np.int64)
    places[order_by(draw_keys(images, root, str(seed)), numbers)] = np.arange(len(images))
    return places


def _check_pairs(images: Samples, strata: Indices, classes: Sequence[str], reason: str) -> None:
    values, counts = np.unique(strata, return_counts=True)
    single = values[counts == 1].tolist()
    if not single or images.counts is not None:
        return
    names = enumerate_names(sorted(classes[stratum] for stratum in single))
    subject = f"The class {names} has" if len(single) == 1 else f"The classes {names} have"
    raise UserError(f"{subject} a single image, of which {reason}.")


def _warn_of_copies(whole: NDArray[np.bool_], images: Samples, classes: Sequence[str]) -> None:
    if whole.any() and is_rank_zero():
        names = enumerate_names([classes[label] for label in np.unique(images.take(whole).labels).tolist()])
        warnings.warn(
            f"All images of the class {names} are copies of one another, by content or by name, and are divided "
            "nevertheless.",
            stacklevel=3,
        )


def _grouped(images: Samples, strata: Indices, folds: int, root: Path, seed: int, together: Indices | None) -> Indices:
    """Return the fold of each sample, without dividing groups, with classes in equal shares as far as possible."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import and rarely needed

    groups = np.unique(list(images.groups or ()), return_inverse=True)[1]
    if together is not None:
        joined = join_groups(groups, together)
        if len(np.unique(joined)) >= folds:
            groups = joined
        elif is_rank_zero():
            warnings.warn("Too many groups share copies of images, so the copies are divided.", stacklevel=3)
    count = len(np.unique(groups))
    if count < folds:
        raise UserError(
            f"{folds} folds need at least {folds} groups of images, and there {'is' if count == 1 else 'are'} {count}; "
            "choose fewer --data.split.num_folds, or a larger --data.split.val_fraction."
        )
    order = order_by(draw_keys(images, root, str(seed)))  # so that the order of the rows does not matter
    labels, names = strata[order], groups[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer images than folds, which are checked afterwards
        rounds = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, names)
        numbers = np.zeros(len(images), dtype=np.int64)
        for number, (_, held) in enumerate(rounds):
            numbers[order[held]] = number
    return numbers


def _divide(images: Samples, held: NDArray[np.bool_]) -> Split:
    return images.take(~held), images.take(held)


def _checked(split: Split, classes: Sequence[str]) -> Split:
    """Refuse a split by groups that leaves training without a class."""
    train, val = split
    if lost := np.setdiff1d(val.labels, train.labels).tolist():
        names = enumerate_names([classes[label] for label in lost])
        raise UserError(
            f"All images of the class {names} are in groups of the validation part, so none is left to train on; "
            "give these images more groups, or another --data.split.seed."
        )
    return split
