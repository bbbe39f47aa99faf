"""How the labels of images to evaluate relate to the outputs of a model of ImageNet's classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.class_words import imagenet_classes, is_wnid
from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a data set among a model's classes.

    Attributes:
        names: The data set's name of each class, in the order of the model's outputs.
        outputs: The outputs that count, in ascending order; None for all.
        note: What differs from the usual case, in a sentence; empty if nothing does.
    """

    names: list[str]
    outputs: list[int] | None = None
    note: str = ""


def match_labels(found: Sequence[str], classes: Sequence[str], place: str) -> LabelSpace:
    """Match the labels of a data set to a model's classes.

    A model of ImageNet-1k or one of its larger sets is evaluated on the classes that the images have: ImageNet-A and -R
    have 200, and are evaluated in this way by their authors. ImageNet-V2 names its folders by the indices of the
    classes, 0 to 999, which must not be sorted as text.

    Args:
        found: The labels in the data set.
        classes: The model's class names in the order of its outputs.
        place: The data set, for messages.

    Raises:
        UserError: If the labels are numbers, but not the indices of ImageNet's classes.
    """
    usual = LabelSpace(list(classes))
    if len(classes) < len(imagenet_classes()) or not all(map(is_wnid, classes)):
        return usual
    if found and all(map(_is_number, found)):
        return _by_index(found, classes, place)
    there = set(found)
    if not there or not there < set(classes):  # unknown labels are refused when they are listed
        return usual
    outputs = [index for index, name in enumerate(classes) if name in there]
    note = (
        f"only the {len(there):,} classes of the images count: the model's other {len(classes) - len(there):,} outputs "
        "are ignored"
    )
    return LabelSpace(list(classes), outputs, note)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _by_index(found: Sequence[str], classes: Sequence[str], place: str) -> LabelSpace:
    whole = imagenet_classes()
    if tuple(classes) != whole or sorted(map(int, found)) != list(range(len(whole))):
        raise UserError(
            f"The labels in {place} are numbers, {enumerate_names(sorted(found, key=int))}, but the model's classes "
            f"are WordNet IDs, {enumerate_names(classes)}. Only 0 to {len(whole) - 1}, all of them, are taken for "
            "indices of ImageNet-1k's classes, as in ImageNet-V2, since ImageNet's own numbers, 1 to 1000, have "
            "another order; rename the labels to WordNet IDs."
        )
    note = "the labels 0 to 999 are taken for the indices of ImageNet's classes, as in ImageNet-V2"
    return LabelSpace(sorted(found, key=int), note=note)
