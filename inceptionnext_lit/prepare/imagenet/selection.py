"""Choose a part of the classes and images, the same ones from every copy of a data set."""

import hashlib
from collections.abc import Collection, Iterable
from typing import NamedTuple

from inceptionnext_lit.errors import UserError


class Subset(NamedTuple):
    """A part of a data set: some classes, and some training images of each; all validation images of these classes.

    Names are ordered by the SHA-256 of their UTF-8 bytes, and the first ones are taken. So the choice depends neither
    on the layout nor on what else is there, and a larger subset contains each smaller one.

    Attributes:
        classes: Number of classes.
        images: Number of training images per class; classes with fewer keep all of theirs.
    """

    classes: int
    images: int

    def choose_classes(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the chosen classes, sorted.

        Raises:
            UserError: If it is not two classes or more, or there are fewer.
        """
        if not 2 <= self.classes <= len(names):
            raise UserError(f"--subset asks for {self.classes:,} classes; it must be 2 to {len(names):,}.")
        return tuple(sorted(first_names(names, self.classes)))

    def __str__(self) -> str:
        """Return the subset as it is given on the command line."""
        return f"{self.classes},{self.images}"


def first_names(names: Iterable[str], number: int | None) -> list[str]:
    """Return the first names in the order of their hashes; all of them if the number is None."""
    if number is None:
        return list(names)
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:number]
