"""The images of ``validate`` and ``test``, with the model's outputs that count for them."""

from dataclasses import dataclass
from typing import Literal

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.label_space import LabelSpace, match_labels
from inceptionnext_lit.data.sources.files import list_images
from inceptionnext_lit.data.sources.folder import find_layout
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.real_labels import read_real_labels, relabel
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class Evaluated:
    """Images to evaluate.

    Attributes:
        samples: The images; with ReaL labels, several labels for each.
        outputs: The model's outputs that count; None for all.
        note: What differs from the usual case, in a sentence; empty if nothing does.
    """

    samples: Samples
    outputs: list[int] | None = None
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """The note as a line of output, if there is one."""
        return [f"Classes:    {self.note}"] if self.note else []


def evaluated_images(
    images: ImageRoot,
    rules: SplitRules,
    split: Literal["val", "test"],
    *,
    own: bool,
    real_labels: str | None = None,
) -> Evaluated:
    """Return a split of labeled images for an evaluation.

    Args:
        images: The data set.
        rules: How it was divided.
        split: The split.
        own: Whether a run with these rules trains on it; see :meth:`SplitRules.validation`.
        real_labels: The file of ReaL labels, by which ImageNet's validation images are labeled, in class folders or
            not; None for the data set's own labels.

    Raises:
        UserError: If there are no such images, or they have labels that are not among the given classes.
    """
    if real_labels is not None:
        return _with_real_labels(images, split, real_labels)
    space = _space(images, split)
    names = None if space is None else space.names
    choose = rules.validation if split == "val" else rules.test
    samples = choose(images.source, names, own=own)
    return Evaluated(samples) if space is None else Evaluated(samples, space.outputs, space.note)


def _space(images: ImageRoot, split: Literal["val", "test"]) -> LabelSpace | None:
    """Match the split's labels to the given classes; None if there are none."""
    if images.given_classes is None:
        return None
    part = split if images.source.has_splits else "train"
    found = None if images.multi_label else images.source.labels(part)
    if found is None:  # there is no such split, or it is held back from training
        return LabelSpace(images.given_classes)
    return match_labels(found, images.given_classes, images.source.place(part))


def _with_real_labels(images: ImageRoot, split: Literal["val", "test"], file: str) -> Evaluated:
    if split == "test" or images.given_classes is None or images.multi_label:
        raise UserError(
            "data.real_labels are for validate, with a model of ImageNet-1k's classes and its validation images."
        )
    samples, note = relabel(_files(images), read_real_labels(file), images.given_classes)
    return Evaluated(samples, note=note)


def _files(images: ImageRoot) -> list[str]:
    """Return the paths of all validation images."""
    if is_table(images.folder):
        source = images.source
        part = source.evaluated("val" if source.has_splits else "train", images.classes)
        return [] if part is None else list(part.paths)
    layout = find_layout(images.folder, frozenset(images.classes))
    folder = layout.val if layout.has_splits else layout.root
    if folder is None:
        raise UserError(f"No validation split: {layout.root / 'val'} was not found; name its folder with --data.root.")
    if not (found := list_images(folder, image_suffixes(images.in_chans))):
        raise UserError(f"No images below {folder}; name the folder of ImageNet's validation images with --data.root.")
    return found
