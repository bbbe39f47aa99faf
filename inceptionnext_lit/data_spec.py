"""Properties of a data set that a model depends on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast, overload

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing, check_preprocessing
from inceptionnext_lit.wording import listed

PROBABILITY_PREFIX = "prob_"  # of the columns with a class's probability in tables of predictions
_IMAGENET_CLASSES = 1000


class ClassNames(Sequence[str]):
    """Class names that the command line takes as they are, and as one value.

    jsonargparse would check a list name by name, with a copy of all names for each, which takes minutes for a thousand,
    and would read a name as YAML.

    Args:
        names: The names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """Return a name, or some."""
        return self._names[index]

    def __len__(self) -> int:
        """The number of names."""
        return len(self._names)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the names themselves, which cannot be changed."""
        return self


def are_names(names: Sequence[Any]) -> bool:
    """Return whether values can name classes: text that is not empty, each once."""
    return all(isinstance(name, str) and name.strip() for name in names) and len(set(names)) == len(names)


@dataclass(frozen=True)
class DataSpec:
    """Classes and input of a data set.

    Attributes:
        class_names: Class names in index order; None for the indices.
        num_classes: Number of classes; None for the number of names, or else ImageNet's 1000.
        multi_label: Whether an image may have several labels.
        preprocessing: Preprocessing of the model's input; None if unknown.
        palette: For segmentation, the color of each class: red, green and blue from 0 to 255; None if there are none.

    Raises:
        UserError: If there are no classes, the number of names or colors differs from the number of classes, a name is
            empty or occurs twice, or the preprocessing is incomplete.
    """

    class_names: list[str] | None = None
    num_classes: int | None = None
    multi_label: bool = False
    preprocessing: Preprocessing | None = None
    palette: list[list[int]] | None = None

    def __post_init__(self) -> None:
        names, count = cast(Any, self.class_names), self.num_classes
        if count is not None and count < 1:
            raise UserError(f"model.data_spec.num_classes is {count}; it must be 1 or more.")
        if names is not None and (isinstance(names, str) or not names or not are_names(names)):
            shown = names if isinstance(names, str) else listed([repr(name) for name in names])
            raise UserError(f"The class names are {shown or 'none'}; give a list of texts, each once and none empty.")
        if names is not None and count not in (None, len(names)):
            raise UserError(f"{len(names)} class names were given for {count} classes.")
        if self.preprocessing is not None:
            check_preprocessing(self.preprocessing)
        if self.palette is not None and len(self.palette) != len(self.names):
            raise UserError(f"{len(self.palette)} colors were given for {len(self.names)} classes.")

    @property
    def names(self) -> list[str]:
        """Class names in index order, or the indices as text if there are none."""
        if self.class_names is not None:
            return list(self.class_names)
        return [str(index) for index in range(_IMAGENET_CLASSES if self.num_classes is None else self.num_classes)]
