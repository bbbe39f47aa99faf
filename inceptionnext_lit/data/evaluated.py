"""The images of ``validate`` and ``test``, with the model's outputs that count for them."""

from dataclasses import dataclass
from typing import Literal

from inceptionnext_lit.data.label_space import LabelSpace, match_labels
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.real_labels import RealLabelSource
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.splitting.rules import SplitRules


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


def evaluated_images(images: ImageRoot, rules: SplitRules, split: Literal["val", "test"], *, own: bool) -> Evaluated:
    """Return a split of labeled images for an evaluation.

    Args:
        images: The data set.
        rules: How it was divided.
        split: The split.
        own: Whether a run with these rules trains on it; see :meth:`SplitRules.validation`.

    Raises:
        UserError: If there are no such images, or they have labels that are not among the given classes.
    """
    space = _space(images, split)
    names = None if space is None else space.names
    choose = rules.validation if split == "val" else rules.test
    samples = choose(images.source, names, own=own)
    if isinstance(images.source, RealLabelSource):
        return Evaluated(samples, note=images.source.note)
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
