"""How training, validation and test samples are told apart, and which of them an evaluation uses."""

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
    """How training and validation samples are told apart.

    Attributes:
        val_fraction: Share of each class that is held back for validation if there is no ``val`` folder.
        seed: Another seed holds back other images, and gives other folds and few-shot subsets.
        num_folds: Rounds of a k-fold cross-validation, in place of ``val_fraction``.
        fold: Which of these rounds this run is, from 0.
        per_class: Train on so many images of each class only; validation stays whole.

    Raises:
        UserError: If a value is out of its range.
    """

    val_fraction: float = 0.2
    seed: int = 0
    num_folds: int | None = None
    fold: int = 0
    per_class: int | None = None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        folds, most = self.num_folds, (self.num_folds or 1) - 1
        meant = "0, or set data.split.num_folds" if folds is None else f"0 to {most}, below data.split.num_folds"
        few = self.per_class
        check("split.val_fraction", self.val_fraction, 0 < self.val_fraction < 1, "between 0 and 1, both excluded")
        check("split.num_folds", folds, folds is None or folds >= 2, "2 or more, or null")
        check("split.fold", self.fold, 0 <= self.fold <= most, meant)
        check("split.per_class", few, few is None or few >= 1, "1 image or more, or null")

    def warn_of_unused(self) -> None:
        """Warn of a share to hold back that has no effect because there are folds."""
        if self.num_folds is not None and self.val_fraction != type(self).val_fraction:
            rank_zero_warn(
                f"data.split.val_fraction {self.val_fraction} has no effect beside data.split.num_folds "
                f"{self.num_folds}: each fold holds back 1/{self.num_folds} of the images. Leave one of them out."
            )

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
