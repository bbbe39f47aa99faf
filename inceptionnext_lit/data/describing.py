"""What a person is told of the images before anything is done with them."""

from collections import Counter

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.scan import describe_ignored
from inceptionnext_lit.data.sources.split_names import SplitName
from inceptionnext_lit.data.sources.splits import Source
from inceptionnext_lit.data.splitting.rules import SplitRules


def describe_training(source: Source, rules: SplitRules, train: Samples, val: Samples, *, held_back: bool) -> str:
    """How many images are trained on, and where those for validation come from.

    Args:
        source: The data set.
        rules: How it was divided.
        train: The training images.
        val: The validation images.
        held_back: Whether these are a part of the training split.
    """
    trained = f"{_images(train, 'training image')} in {_place(source, 'train')}"
    if not held_back:
        return f"{trained}; {_place(source, 'val')}: {len(val):,} for validation"
    fold = "" if rules.num_folds is None else f", fold {rules.fold + 1} of {rules.num_folds}"
    return f"{trained}; {len(val):,} held back from the same {source.unit} for validation{fold}"


def describe_evaluation(
    source: Source, split: SplitName, samples: Samples, *, held_back: bool = False, changed: bool = False
) -> str:
    """How many images are evaluated, and where they come from.

    Args:
        source: The data set.
        split: Which split was asked for.
        samples: The images.
        held_back: Whether these are what training on the same images held back.
        changed: Whether they would have been if the images had not changed since.
    """
    if held_back and changed:
        place = _place(source, "train")
        return f"{_images(samples)} in {place}, which has changed since training: some of them may have been trained on"
    if held_back:
        return f"{_images(samples)}, held back from training, in {_place(source, 'train')}"
    return f"{_images(samples)} in {_place(source, split if source.has_splits else 'train')}"


def describe_rest(source: Source) -> list[str]:
    """What of a data set is not used, a line each."""
    lines = []
    if source.unused:
        names = enumerate_names([f"{name}/" for name in source.unused])
        lines.append(f"Not used:   {names} beside the splits")
    return lines + describe_junk(source.ignored)


def describe_junk(ignored: Counter[str]) -> list[str]:
    """How many images of thumbnails and the like were left out; no line where there are none."""
    text = describe_ignored(ignored)
    return [] if text is None else [f"Ignored:    {text}"]


def _images(samples: Samples, noun: str = "image") -> str:
    classes = len(np.unique(samples.labels))
    images = f"{len(samples):,} {noun}{'' if len(samples) == 1 else 's'}"
    return f"{images} of {classes:,} {'class' if classes == 1 else 'classes'}"


def _place(source: Source, split: SplitName) -> str:
    return source.place(split) + ("/" if source.unit == "folders" else "")
