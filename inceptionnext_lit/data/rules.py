"""How training, validation and test samples are told apart, and which of them an evaluation uses."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.copies import find_copies
from inceptionnext_lit.data.folder import find_layout
from inceptionnext_lit.data.samples import Samples
from inceptionnext_lit.data.selection import Split, few_shot, fold, hold_back
from inceptionnext_lit.data.splits import Source
from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class SplitRules:
    """How training and validation samples are told apart.

    Attributes:
        val_fraction: Share of each class that is held back where there is no validation split.
        split_seed: Seed of what is held back, of the folds, and of the few-shot subset.
        num_folds: Rounds of a cross-validation; None for a single split.
        fold: Which round.
        per_class: Training images of each class; None for all.

    Raises:
        UserError: If a value is out of its range.
    """

    val_fraction: float
    split_seed: int
    num_folds: int | None
    fold: int
    per_class: int | None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        folds, most = self.num_folds, (self.num_folds or 1) - 1
        meant = "0, or set data.num_folds" if folds is None else f"0 to {most}, below data.num_folds"
        check("val_fraction", self.val_fraction, 0 < self.val_fraction < 1, "between 0 and 1, both excluded")
        check("num_folds", folds, folds is None or folds >= 2, "2 or more, or null")
        check("fold", self.fold, 0 <= self.fold <= most, meant)
        check("per_class", self.per_class, self.per_class is None or self.per_class >= 1, "1 image or more, or null")

    def training(self, source: Source, classes: Sequence[str] | None) -> Split:
        """The training and the validation samples of a source.

        Args:
            source: The data set.
            classes: The class names in index order, if they are given.

        Raises:
            UserError: If there are no training images, or they cannot be divided as asked.
        """
        train = source.samples("train", classes) or Samples.of([])
        val = source.samples("val", classes)
        names = list(classes or source.classes())
        if self.num_folds is not None:
            if val is not None:
                raise UserError(
                    "data.num_folds divides the training split, but there is a validation split as well; leave out "
                    "data.num_folds, or give images without a validation split."
                )
            together = find_copies(train)
            train, val = fold(train, source.root, self.fold, self.num_folds, self.split_seed, names, together)
        elif val is None:
            together = find_copies(train)
            train, val = hold_back(train, source.root, self.val_fraction, self.split_seed, names, together)
        if self.per_class is not None:
            train = few_shot(train, source.root, self.per_class, self.split_seed, names)
        return train, val

    def hold_back(self, source: Source, classes: Sequence[str] | None) -> bool:
        """Whether the validation samples are a part of the training split; arguments as in :meth:`training`."""
        return self.num_folds is not None or source.samples("val", classes) is None

    def validation(self, source: Source, classes: Sequence[str] | None, *, own: bool) -> Samples:
        """The samples of a source that validation is to use.

        Args:
            source: The data set.
            classes: The class names in index order, if they are given.
            own: Whether a run with these rules trains on this source, so that a part of it is held back; of another one
                without splits, everything is used.

        Raises:
            UserError: If there are none.
        """
        val = None if own and self.num_folds is not None else source.samples("val", classes)
        if val is not None:
            return val
        if own:
            return self.training(source, classes)[1]
        if source.has_splits:
            raise UserError(
                f"There is no validation split: {source.place('val')} was looked for. Add it, or evaluate the test "
                "split with the subcommand test, or name a folder of classes itself with --data.root."
            )
        return source.everything(classes)

    @staticmethod
    def test(source: Source, classes: Sequence[str] | None, *, own: bool) -> Samples:
        """The test split of a source; arguments as in :meth:`validation`.

        Raises:
            UserError: If there is none.
        """
        samples = source.samples("test", classes)
        if samples is not None:
            return samples
        if not own and not source.has_splits:
            return source.everything(classes)
        raise UserError(
            f"There is no test split: {source.place('test')} was looked for. "
            "Add it, or evaluate the validation split with the subcommand validate."
        )


def rules_of_own_run(run: Mapping[str, Any], root: Path, trained_on: Path) -> SplitRules | None:
    """The rules by which a run held a part of its images back.

    Args:
        run: The run's settings, as a checkpoint holds them.
        root: The data that is evaluated.
        trained_on: The data that the run was trained on.

    Returns:
        The rules; None if ``root`` is other data, or the run held nothing of it back.
    """
    if not _places(root) & _places(trained_on) or (root != trained_on and _has_validation(trained_on)):
        return None
    return stored_rules(run)


def stored_rules(run: Mapping[str, Any]) -> SplitRules | None:
    """The rules among a run's settings; None if they are not there, as in those of an earlier version."""
    try:
        return SplitRules(**{field.name: run[f"data.{field.name}"] for field in fields(SplitRules)})
    except KeyError:
        return None


def _places(root: Path) -> set[str]:
    """Where a data set lies, and where its training images lie."""
    places = {os.path.realpath(root)}
    with suppress(UserError):
        if root.is_dir() and (train := find_layout(root).train) is not None:
            places.add(os.path.realpath(train))
    return places


def _has_validation(root: Path) -> bool:
    return root.is_dir() and find_layout(root).val is not None
