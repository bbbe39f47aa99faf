"""The usual names of splits, in folders and in manifests."""

import re
from typing import Literal

SplitName = Literal["train", "val", "test"]

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")
SYNONYMS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
}
# Additions to a split's name that do not change its meaning: training_set, train_images, seg_train, Test-Data, valset.
_FILLERS = r"set|sets|data|dataset|split|folder|images?|imgs?|pics|pictures|photos|seg"
_SPLIT_OF = {synonym: split for split, synonyms in SYNONYMS.items() for synonym in synonyms}
_NAME = "|".join(sorted(_SPLIT_OF, key=len, reverse=True))
_PATTERN = re.compile(rf"(?:(?:{_FILLERS})[\s_.-]+)?({_NAME})(?:[\s_.-]*(?:{_FILLERS}))?")


def split_named(name: str) -> SplitName | None:
    """Return the split that a name means, in any case; None if it is not the name of a split.

    ``Train``, ``training_set`` and ``seg_train`` are ``train``; ``train station`` and ``freight-train`` are classes.

    Args:
        name: The name of a folder, or a cell of a manifest.
    """
    found = _PATTERN.fullmatch(name.strip().casefold())
    return _SPLIT_OF[found[1]] if found else None
