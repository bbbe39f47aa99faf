"""Which samples are held back, which make a fold, and which make a few-shot subset.

What is drawn depends on a seed and on each image's path below the data folder alone, so that it is the same on every
machine, and almost the same when images are added.
"""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from inceptionnext_lit.data.samples import Sample, labels_of
from inceptionnext_lit.errors import UserError

Split = tuple[list[Sample], list[Sample]]
"""Training and validation samples."""


def hold_back(samples: Sequence[Sample], root: Path, fraction: float, seed: int, classes: Sequence[str]) -> Split:
    """Split samples into training and validation, class by class.

    Groups stay whole where samples have them; their share is then the nearest of 1/2, 1/3, 1/4 and so on. An image with
    several labels counts for the rarest of them.

    Args:
        samples: The samples of one folder or manifest.
        root: The folder that the paths are taken relative to.
        fraction: Share of each class to hold back, in (0, 1).
        seed: Another seed is another split.
        classes: The class names, for messages.

    Returns:
        The training samples and the validation samples, each in the order of ``samples``.

    Raises:
        UserError: If a class has a single image, or all of a class's images are of one group.
    """
    strata = _strata(samples)
    _check_pairs(samples, strata, classes, "none can be held back for validation; add images, or name a val split")
    if _has_groups(samples):
        share = min(fraction, 1 - fraction)
        of_fold = _grouped(samples, strata, max(2, round(1 / share)), root, seed) == 0
        held = of_fold if fraction <= 0.5 else ~of_fold
        return _checked(_divide(samples, held.tolist()), classes)
    chosen: set[str] = set()
    for members in _by_stratum(samples, strata):
        count = min(max(int(len(members) * fraction + 0.5), 1), len(members) - 1)
        chosen.update(sample.path for sample in sorted(members, key=_draw(root, str(seed)))[:count])
    return _divide(samples, [sample.path in chosen for sample in samples])


def fold(samples: Sequence[Sample], root: Path, number: int, folds: int, seed: int, classes: Sequence[str]) -> Split:
    """Split samples for one round of a k-fold cross-validation; every sample is in one round's validation part.

    Folds have the same share of each class, as far as its images and groups can be divided.

    Args:
        samples: The samples of one folder or manifest.
        root: The folder that the paths are taken relative to.
        number: Which round, from 0.
        folds: Rounds.
        seed: Another seed gives other folds.
        classes: The class names, for messages.

    Raises:
        UserError: If a class has a single image, or all of a class's images are of one group.
    """
    strata = _strata(samples)
    _check_pairs(samples, strata, classes, f"no {folds} folds can be made; add images")
    if _has_groups(samples):
        return _checked(_divide(samples, (_grouped(samples, strata, folds, root, seed) == number).tolist()), classes)
    held: set[str] = set()
    start = 0
    for members in _by_stratum(samples, strata):
        ordered = sorted(members, key=_draw(root, str(seed)))
        held.update(sample.path for n, sample in enumerate(ordered, start) if n % folds == number)
        start += len(ordered)  # classes that do not divide evenly begin at another fold each
    return _divide(samples, [sample.path in held for sample in samples])


def few_shot(samples: Sequence[Sample], root: Path, per_class: int, seed: int, classes: Sequence[str]) -> list[Sample]:
    """Choose so many images of each class, or all of a class that has fewer, with one warning.

    Of a multi-label data set, images are drawn until each label has so many; some labels then have more.

    Args:
        samples: The training samples.
        root: The folder that the paths are taken relative to.
        per_class: Images of each class.
        seed: Another seed draws other images.
        classes: The class names, for the warning.

    Returns:
        The chosen samples, in the order of ``samples``.
    """
    counts: Counter[int | None] = Counter()
    chosen: set[str] = set()
    for sample in sorted(samples, key=_draw(root, f"few-shot {seed}")):
        labels: tuple[int | None, ...] = labels_of(sample) or (None,)
        if any(counts[label] < per_class for label in labels):
            counts.update(labels)
            chosen.add(sample.path)
    short = [f"{name} ({counts[index]})" for index, name in enumerate(classes) if counts[index] < per_class]
    if short:
        warnings.warn(f"Classes with fewer than {per_class} training images: {', '.join(short[:20])}.", stacklevel=2)
    return [sample for sample in samples if sample.path in chosen]


def _draw(root: Path, seed: str) -> Callable[[Sample], bytes]:
    def key(sample: Sample) -> bytes:
        name = Path(os.path.relpath(sample.path, root)).as_posix()
        return hashlib.sha256(f"{seed}:".encode() + os.fsencode(name)).digest()

    return key


def _strata(samples: Sequence[Sample]) -> list[int]:
    """The class that each sample counts for: the rarest of its labels; -1 without any."""
    counts = Counter(label for sample in samples for label in labels_of(sample))
    return [min(labels_of(sample), key=lambda label: (counts[label], label), default=-1) for sample in samples]


def _by_stratum(samples: Sequence[Sample], strata: Sequence[int]) -> list[list[Sample]]:
    members: dict[int, list[Sample]] = {}
    for sample, stratum in zip(samples, strata, strict=True):
        members.setdefault(stratum, []).append(sample)
    return list(members.values())


def _check_pairs(samples: Sequence[Sample], strata: Sequence[int], classes: Sequence[str], reason: str) -> None:
    single = [stratum for stratum, count in Counter(strata).items() if count == 1]
    if not single or any(isinstance(sample.label, tuple) for sample in samples):
        return
    names = ", ".join(sorted(classes[stratum] for stratum in single)[:20])
    subject = f"The class {names} has" if len(single) == 1 else f"The classes {names} have"
    raise UserError(f"{subject} a single image, of which {reason}.")


def _has_groups(samples: Sequence[Sample]) -> bool:
    return any(sample.group is not None for sample in samples)


def _grouped(samples: Sequence[Sample], strata: Sequence[int], folds: int, root: Path, seed: int) -> np.ndarray:
    """The fold of each sample, groups in one piece and classes in even shares as far as that goes."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import, and few need it

    groups = [sample.group or "" for sample in samples]
    if len(set(groups)) < folds:
        raise UserError(
            f"There are {len(set(groups))} groups of images, which cannot be divided into {folds} folds; choose fewer "
            "--data.num_folds, or a larger --data.val_fraction."
        )
    # sorted, so that the order of the rows does not matter
    order = sorted(range(len(samples)), key=lambda n: _draw(root, str(seed))(samples[n]))
    labels, names = [strata[n] for n in order], [groups[n] for n in order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer images than folds, which are checked for afterwards
        rounds = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, names)
        numbers = np.zeros(len(samples), dtype=int)
        for number, (_, held) in enumerate(rounds):
            numbers[np.array(order)[held]] = number
    return numbers


def _divide(samples: Sequence[Sample], held: Sequence[bool]) -> Split:
    pairs = list(zip(samples, held, strict=True))
    return [sample for sample, is_held in pairs if not is_held], [sample for sample, is_held in pairs if is_held]


def _checked(split: Split, classes: Sequence[str]) -> Split:
    """Refuse a split by groups that leaves training without a class."""
    train, val = ({label for sample in part for label in labels_of(sample)} for part in split)
    if lost := val - train:
        names = ", ".join(classes[label] for label in sorted(lost))
        raise UserError(
            f"All images of the class {names} are in groups of the validation part, so that none is left to train on; "
            "give these images more groups, or another --data.split_seed."
        )
    return split
