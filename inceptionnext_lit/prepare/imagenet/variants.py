"""ImageNet-1k and the well-known parts of it."""

from dataclasses import dataclass
from typing import NamedTuple

from inceptionnext_lit.data.class_words import imagenet_classes
from inceptionnext_lit.data.public import find_dataset


class Counts(NamedTuple):
    """Number of images in the splits."""

    train: int
    val: int


@dataclass(frozen=True)
class Variant:
    """A data set of ImageNet's classes.

    Attributes:
        name: Name on the command line.
        title: Name in sentences.
        classes: WordNet IDs of its classes, sorted.
        counts: Number of images in its own split.
        known: WordNet IDs of the classes that a source may have.
        from_imagenet: Number of images if it is taken from ImageNet, in ImageNet's split; None if that is the same.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    counts: Counts
    known: tuple[str, ...]
    from_imagenet: Counts | None = None


# https://github.com/HobbitLong/CMC/blob/master/imagenet100.txt, of "Contrastive Multiview Coding" (Tian, Krishnan and
# Isola, ECCV 2020). Other lists of 100 classes have the same name.
_OF_CMC = """
n02869837 n01749939 n02488291 n02107142 n13037406 n02091831 n04517823 n04589890 n03062245 n01773797
n01735189 n07831146 n07753275 n03085013 n04485082 n02105505 n01983481 n02788148 n03530642 n04435653
n02086910 n02859443 n13040303 n03594734 n02085620 n02099849 n01558993 n04493381 n02109047 n04111531
n02877765 n04429376 n02009229 n01978455 n02106550 n01820546 n01692333 n07714571 n02974003 n02114855
n03785016 n03764736 n03775546 n02087046 n07836838 n04099969 n04592741 n03891251 n02701002 n03379051
n02259212 n07715103 n03947888 n04026417 n02326432 n03637318 n01980166 n02113799 n02086240 n03903868
n02483362 n04127249 n02089973 n03017168 n02093428 n02804414 n02396427 n04418357 n02172182 n01729322
n02113978 n03787032 n02089867 n02119022 n03777754 n04238763 n02231487 n03032252 n02138441 n02104029
n03837869 n03494278 n04136333 n03794056 n03492542 n02018207 n04067472 n03930630 n03584829 n02123045
n04229816 n02100583 n03642806 n04336792 n03259280 n02116738 n02108089 n03424325 n01855672 n02090622
"""
# https://github.com/fastai/imagenette: ten easily classified classes, and ten breeds of dogs
_IMAGENETTE = "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257"
_IMAGEWOOF = "n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641"


# of version 1, which has ImageNet's split; version 2 has the same images, split 70 to 30
_OF_VERSION_1 = {"imagenette": Counts(12_894, 500), "imagewoof": Counts(12_454, 500)}


def variant(name: str) -> Variant:
    """Return a row of the table.

    Args:
        name: Name on the command line.

    Raises:
        UserError: If there is no such data set.
    """
    row, every = find_dataset(name), imagenet_classes()
    parts = {"imagenet-100": _OF_CMC, "imagenette": _IMAGENETTE, "imagewoof": _IMAGEWOOF}
    classes = tuple(sorted(parts[row.name].split())) if row.name in parts else every
    counts = Counts(row.splits["train"], row.splits["val"])
    return Variant(row.name, row.title, classes, counts, every, _OF_VERSION_1.get(row.name))
