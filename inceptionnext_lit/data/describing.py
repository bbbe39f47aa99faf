"""Describe the images of a stage to the user before it starts."""

from collections import Counter

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.scan import describe_ignored
from inceptionnext_lit.data.sources.split_names import SplitName
from inceptionnext_lit.data.sources.splits import Source
from inceptionnext_lit.data.splitting.rules import SplitRules


def describe_training(source: Source, rules: SplitRules, train: Samples, val: Samples, *, held_back: bool) -> str:
    """Describe the number of training images, and the source of the validation images.

    Args:
        source: The data set.
        rules: How it was split.
        train: The training images.
        val: The validation images.
        held_back: Whether the validation images are held back from the training split.
    """
    trained = f"{_images(train, 'training image')} in {_place(source, 'train')}"
    if not held_back:
        return f"{trained}; {_place(source, 'val')}: {len(val):,} for validation"
    fold = "" if rules.num_folds is None else f", fold {rules.fold + 1} of {rules.num_folds}"
    return f"{trained}; {len(val):,} held back from the same {source.unit} for validation{fold}"


def describe_evaluation(
    source: Source, split: SplitName, samples: Samples, *, held_back: bool = False, changed: bool = False
) -> str:
    """Describe the number and source of the images to evaluate.

    Args:
        source: The data set.
        split: The requested split.
        samples: The images.
        held_back: Whether they are the part held back from training on the same images.
        changed: Whether the images have changed since.
    """
    if held_back and changed:
        place = _place(source, "train")
        return f"{_images(samples)} in {place}, which has changed since training: some of them may have been trained on"
    if held_back:
        return f"{_images(samples)}, held back from training, in {_place(source, 'train')}"
    return f"{_images(samples)} in {_place(source, split if source.has_splits else 'train')}"


def describe_rest(source: Source) -> list[str]:
    """Describe the unused parts of a data set, one line each."""
    lines = []
    if source.unused:
        names = enumerate_names([f"{name}/" for name in source.unused])
        lines.append(f"Not used:   {names} next to the splits")
    return lines + describe_junk(source.ignored)


def describe_junk(ignored: Counter[str]) -> list[str]:
    """Describe how many thumbnails and similar images were left out; no line if there are none."""
    text = describe_ignored(ignored)
    return [] if text is None else [f"Ignored:    {text}"]


def _images(samples: Samples, noun: str = "image") -> str:
    classes = len(np.unique(samples.labels))
    images = f"{len(samples):,} {noun}{'' if len(samples) == 1 else 's'}"
    return f"{images} of {classes:,} {'class' if classes == 1 else 'classes'}"


def _place(source: Source, split: SplitName) -> str:
    return source.place(split) + ("/" if source.unit == "folders" else "")
