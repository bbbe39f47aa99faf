"""Keep units of images that belong together on one side of a split or in one fold."""

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.sample_table import Indices

Mask = NDArray[np.bool_]


def hold_units(held: Mask, places: Indices, numbers: Indices, counts: Indices, together: Indices) -> Mask:
    """Change which images are held back so that units are not divided, in classes with units.

    Args:
        held: Whether each image is held back, (N,); changed in place.
        places: Position of each image, sorted by class and in random order within.
        numbers: Class number of each image.
        counts: Number of images of each class to hold back.
        together: Index of the image that represents each image's unit.

    Returns:
        A mask of the images of classes that are a single unit, which are divided nevertheless.
    """
    classes, whole = _classes_with_units(places, numbers, together)
    members = _members(together, whole)
    decided = np.zeros_like(held)
    for number, images in classes:
        wanted, own = int(counts[number]), set(images.tolist())
        taken = int(held[images[decided[images]]].sum())
        units = list(dict.fromkeys(together[images[~decided[images]]].tolist()))
        sizes = {unit: len(own.intersection(members[unit])) for unit in units}
        for unit in units:
            take = taken + sizes[unit] <= wanted
            taken += take * sizes[unit]
            held[members[unit]] = take
            decided[members[unit]] = True
        if not taken and len(units) > 1:
            held[members[min(units, key=lambda unit: sizes[unit])]] = True
        if held[images].all():
            held[members[int(together[images[-1]])]] = False
    return whole


def deal_units(of_fold: Indices, places: Indices, numbers: Indices, folds: int, together: Indices) -> Mask:
    """Change folds so that units are not divided, in classes with units.

    Args:
        of_fold: The fold of each image, (N,); changed in place.
        places: As in :func:`hold_units`.
        numbers: As in :func:`hold_units`.
        folds: Number of folds.
        together: As in :func:`hold_units`.

    Returns:
        As :func:`hold_units`.
    """
    classes, whole = _classes_with_units(places, numbers, together)
    members = _members(together, whole)
    decided = np.zeros_like(whole)
    for _, images in classes:
        for rank, unit in enumerate(dict.fromkeys(together[images].tolist())):
            if not decided[members[unit]].any():
                of_fold[members[unit]] = (int(places[images[0]]) + rank) % folds
                decided[members[unit]] = True
    return whole


def join_groups(groups: Indices, together: Indices) -> Indices:
    """Merge groups that share a unit.

    Args:
        groups: Group number of each image, from 0.
        together: Index of the image that represents each image's unit.
    """
    parents = np.arange(groups.max() + 1)

    def root(group: int) -> int:
        while parents[group] != group:
            group = int(parents[group])
        return group

    for index in np.flatnonzero(together != np.arange(len(together))).tolist():
        one, other = root(int(groups[index])), root(int(groups[together[index]]))
        parents[max(one, other)] = min(one, other)
    return np.array([root(group) for group in range(len(parents))])[groups]


def _members(together: Indices, left_out: Mask) -> dict[int, list[int]]:
    """Return the images of each unit."""
    members: dict[int, list[int]] = {}
    for index in np.flatnonzero(~left_out).tolist():
        members.setdefault(int(together[index]), []).append(index)
    return members


def _classes_with_units(places: Indices, numbers: Indices, together: Indices) -> tuple[list[tuple[int, Indices]], Mask]:
    """Return the classes with units, as numbers and images in random order, and a mask of skipped images.

    Classes that are a single unit are skipped.
    """
    order = np.argsort(places)
    ends = np.cumsum(np.bincount(numbers))
    several = np.bincount(together, minlength=len(together))[together] > 1
    classes, whole = [], np.zeros(len(places), dtype=bool)
    for number in np.unique(numbers[several]).tolist():
        images = order[ends[number - 1] if number else 0 : ends[number]]
        if (together[images] == together[images[0]]).all():
            whole[images] = True
        else:
            classes.append((number, images))
    return classes, whole
