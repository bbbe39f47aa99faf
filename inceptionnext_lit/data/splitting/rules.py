"""How samples are divided into training, validation and test splits, and which an evaluation uses."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_warn

from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.splits import Source
from inceptionnext_lit.data.splitting.copies import find_copies
from inceptionnext_lit.data.splitting.selection import Split, few_shot, fold, hold_back
from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class SplitRules:
    """How samples are divided into training and validation.

    Attributes:
        val_fraction: Fraction of each class to hold back for validation if there is no ``val`` folder.
        seed: Seed of the held-back images, folds and few-shot subsets.
        num_folds: Number of folds of a cross-validation, instead of ``val_fraction``.
        fold: The fold of this run, from 0.
        per_class: Train on this number of images per class; validation does not change.

    Raises:
        UserError: If a value is out of its range.
    """

    val_fraction: float = 0.2
    seed: int = 0
    num_folds: int | None = None
    fold: int = 0
    per_class: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        folds, most = self.num_folds, (self.num_folds or 1) - 1
        meant = "0, or set data.split.num_folds" if folds is None else f"0 to {most}, below data.split.num_folds"
        few = self.per_class
        check("split.val_fraction", self.val_fraction, 0 < self.val_fraction < 1, "between 0 and 1, both excluded")
        check("split.num_folds", folds, folds is None or folds >= 2, "2 or more, or null")
        check("split.fold", self.fold, 0 <= self.fold <= most, meant)
        check("split.per_class", few, few is None or few >= 1, "1 image or more, or null")

    def warn_of_unused(self) -> None:
        """Warn about a fraction to hold back that has no effect because of folds."""
        if self.num_folds is not None and self.val_fraction != type(self).val_fraction:
            rank_zero_warn(
                f"data.split.val_fraction {self.val_fraction} has no effect with data.split.num_folds "
                f"{self.num_folds}: each fold holds back 1/{self.num_folds} of the images. Leave one of them out."
            )

    def training(self, source: Source, classes: Sequence[str] | None) -> Split:
        """Return the training and validation samples of a source.

        Args:
            source: The data set.
            classes: The class names in index order, if given.

        Raises:
            UserError: If there are no training images, or they cannot be divided as asked.
        """
        train = source.samples("train", classes) or Samples.of([])
        val = source.samples("val", classes)
        names = list(classes or source.classes())
        if self.num_folds is not None:
            if val is not None:
                raise UserError(
                    "data.split.num_folds divides the training split, but there is a validation split as well; leave "
                    "out data.split.num_folds, or give images without a validation split."
                )
            together = find_copies(train)
            train, val = fold(train, source.root, self.fold, self.num_folds, self.seed, names, together)
        elif val is None:
            together = find_copies(train)
            train, val = hold_back(train, source.root, self.val_fraction, self.seed, names, together)
        if self.per_class is not None:
            train = few_shot(train, source.root, self.per_class, self.seed, names)
        return train, val

    def hold_back(self, source: Source, classes: Sequence[str] | None) -> bool:
        """Return whether validation samples are held back from training; arguments as in :meth:`training`."""
        return self.num_folds is not None or source.samples("val", classes) is None

    def validation(self, source: Source, classes: Sequence[str] | None, *, own: bool) -> Samples:
        """Return the samples of a source for validation.

        Args:
            source: The data set.
            classes: The class names in index order, if given.
            own: Whether a run with these rules trains on this source, so that a part is held back; of another source
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
                f"No validation split: {source.place('val')} was not found. Add it, or evaluate the test "
                "split with the subcommand test, or name a folder of classes with --data.root."
            )
        return source.everything(classes)

    @staticmethod
    def test(source: Source, classes: Sequence[str] | None, *, own: bool) -> Samples:
        """Return the test split of a source; arguments as in :meth:`validation`.

        Raises:
            UserError: If there is none.
        """
        samples = source.samples("test", classes)
        if samples is not None:
            return samples
        if not own and not source.has_splits:
            return source.everything(classes)
        raise UserError(
            f"No test split: {source.place('test')} was not found. "
            "Add it, or evaluate the validation split with the subcommand validate."
        )
