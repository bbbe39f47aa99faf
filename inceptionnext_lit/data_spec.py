"""Properties of a data set that a model depends on."""

from dataclasses import dataclass

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing

PROBABILITY_PREFIX = "prob_"  # of the columns with a class's probability in tables of predictions
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class DataSpec:
    """Classes and input of a data set.

    Attributes:
        class_names: Class names in index order; None for the indices.
        num_classes: Number of classes; None for the number of names, or else ImageNet's 1000.
        multi_label: Whether an image may have several labels.
        preprocessing: Preprocessing of the model's input; None if unknown.

    Raises:
        UserError: If there are no classes, or the number of names differs from the number of classes.
    """

    class_names: list[str] | None = None
    num_classes: int | None = None
    multi_label: bool = False
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        names, count = self.class_names, self.num_classes
        if count is not None and count < 1:
            raise UserError(f"model.data_spec.num_classes is {count}; it must be 1 or more.")
        if names is not None and count not in (None, len(names)):
            raise UserError(f"{len(names)} class names were given for {count} classes.")

    @property
    def names(self) -> list[str]:
        """Class names in index order, or the indices as text if there are none."""
        if self.class_names is not None:
            return list(self.class_names)
        return [str(index) for index in range(_IMAGENET_CLASSES if self.num_classes is None else self.num_classes)]
