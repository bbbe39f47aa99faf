"""What the layouts of a source have in common."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet.selection import first_names
from inceptionnext_lit.prepare.imagenet.target import Mode, Target
from inceptionnext_lit.prepare.imagenet.variants import Variant
from inceptionnext_lit.wording import count, listed, printable

SplitName = Literal["train", "val"]


@dataclass(frozen=True)
class Wanted:
    """What to take from a source.

    Attributes:
        variant: The data set.
        classes: The classes to take, sorted: all of it, or of a subset.
        images: Training images to take of each class; None for all.
        mode: How files get into class folders.
        staged: Where an earlier run has put images already.
    """

    variant: Variant
    classes: tuple[str, ...]
    images: int | None
    mode: Mode
    staged: Path

    @property
    def is_whole(self) -> bool:
        """Whether all classes and images are wanted."""
        return self.images is None

    def choose(self, split: SplitName, names: Iterable[str]) -> list[str]:
        """Return the images to take of one class."""
        return first_names(names, self.images if split == "train" else None)

    def check_known(self, names: Iterable[str], place: object) -> None:
        """Refuse classes that are not ImageNet's.

        Args:
            names: Names of a source's classes.
            place: Where they are, for the message.

        Raises:
            UserError: If there are such classes.
        """
        known = set(self.variant.known)
        if unknown := sorted(name for name in names if name not in known):
            number = count(len(unknown), "class", "classes")
            raise UserError(
                f"{printable(str(place))} has {number} that {'is' if len(unknown) == 1 else 'are'} not among the "
                f"{len(known):,} of ImageNet: {listed(unknown)}. Move them elsewhere, or name another --source."
            )


@dataclass(frozen=True)
class Part:
    """A piece of a source that is written in one go.

    Attributes:
        name: A name that stays the same when the command is repeated.
        write: Puts its images, those that are not there yet.
        size: Bytes to be written, at most; 0 if unknown.
    """

    name: str
    write: Callable[[Target], None]
    size: int = 0


@dataclass(frozen=True)
class Split:
    """One split of a source.

    Attributes:
        parts: Its pieces.
        counts: Images of each class, as far as they are known before reading everything; None if not.
        val_numbers: Numbers of the validation images, if known.
        empty: Images to take that are empty files, as far as they are known before reading everything.
    """

    parts: list[Part]
    counts: dict[str, int | None]
    val_numbers: frozenset[int] | None = None
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A source in any layout.

    Attributes:
        described: What it is, for the record.
        train: Its training split.
        val: Its validation split.
        extras: Other files that are kept, by the name they get.
        train_counts: Returns the training images that each class must have, as far as a file in the source tells them.
        has_files: Whether images are files of their own, which can be linked and moved.
    """

    described: str
    train: Split
    val: Split
    extras: dict[str, Path] = field(default_factory=dict)
    train_counts: Callable[[], dict[str, int]] = dict
    has_files: bool = False
