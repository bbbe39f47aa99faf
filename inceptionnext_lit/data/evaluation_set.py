"""The labeled images of an evaluation: all of a data set or a split of it, with their splits and other properties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.checks import enumerate_names, twin_key
from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.label_space import LabelSpace, match_labels
from inceptionnext_lit.data.sources.fingerprint import Fingerprint
from inceptionnext_lit.data.sources.image_root import ImageRoot
from inceptionnext_lit.data.sources.manifest import extra_columns
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.sources.split_names import SPLIT_NAMES, SplitName
from inceptionnext_lit.data.sources.splits import Source
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.splitting.run_images import rules_of_run
from inceptionnext_lit.data.tables import is_table
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import count

SplitChoice = Literal["all", "train", "val", "test"]
CHOICES: tuple[SplitChoice, ...] = get_args(SplitChoice)


@dataclass(frozen=True)
class EvaluationSet:
    """Labeled images to evaluate a classifier on.

    Attributes:
        samples: The N images, with indices of ``class_names`` as labels.
        splits: Split of each image; empty text if the data set has no splits.
        class_names: Class names in index order.
        outputs: The model's outputs that belong to these classes; None for all.
        columns: Other columns of the manifest by name: text, or numbers with NaN where there is no value.
        description: Where the images come from and how many there are, one sentence each.
        trained_on: Number of images that the model was trained on.
    """

    samples: Samples
    splits: list[str]
    class_names: list[str]
    outputs: list[int] | None = None
    columns: Mapping[str, Sequence[str] | NDArray[np.float64]] = field(default_factory=dict)
    description: tuple[str, ...] = ()
    trained_on: int = 0

    def without_training(self) -> "EvaluationSet":
        """Return the same images for a model of which it is not known what it was trained on."""
        if not self.trained_on:
            return self
        return replace(self, description=self.description[:-1], trained_on=0)

    def in_order_of(self, other: "EvaluationSet") -> "EvaluationSet":
        """Return these images in the order of another set, which has the same ones; otherwise, this set itself.

        Args:
            other: The other set.
        """
        places = {path: place for place, path in enumerate(self.samples.paths)}
        if len(places) != len(self.samples) or sorted(places) != sorted(other.samples.paths):
            return self
        order = [places[path] for path in other.samples.paths]
        return replace(
            self,
            samples=self.samples.take(np.array(order)),
            splits=[self.splits[place] for place in order],
            columns={
                name: values[np.array(order)] if isinstance(values, np.ndarray) else [values[place] for place in order]
                for name, values in self.columns.items()
            },
        )


@dataclass(frozen=True)
class Run:
    """What a checkpoint says about its run.

    Attributes:
        settings: The run's settings, such as ``data.root``; empty if unknown.
        images: The fingerprints of its training and validation images; empty if unknown.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Fingerprint] = field(default_factory=dict)


def evaluation_set(
    root: ImageRoot, class_names: Sequence[str], split: SplitChoice, run: Run, *, common_classes: bool = False
) -> EvaluationSet:
    """List the images to evaluate a classifier on.

    Args:
        root: The data set.
        class_names: The classifier's class names in index order.
        split: The split, or ``all`` for all labeled images.
        run: The classifier's run, which may have held back a part of the same images.
        common_classes: Evaluate only the classes that both the data set and the classifier have.

    Raises:
        UserError: If there is no such split, no image, or the data set has labels that the classifier lacks.
    """
    names, outputs = list(class_names), None
    parts = _parts(root, split)
    found = sorted({label for part in parts for label in root.source.labels(part) or ()})
    space = LabelSpace(names) if root.multi_label else match_labels(found, names, str(root.folder))
    known, there = set(space.names), set(found)
    unknown = [name for name in found if name not in known]
    if unknown and not common_classes:
        alike = {twin_key(name): name for name in names}
        pairs = [f"{name!r} looks like {alike[twin_key(name)]!r}" for name in unknown if twin_key(name) in alike]
        hint = f" {enumerate_names(pairs, 3)}." if pairs else ""
        raise UserError(
            f"{root.folder} has labels that the model does not have: {enumerate_names(unknown)}. The model has "
            f"{enumerate_names(names)}.{hint} Rename the labels, or add --common_classes to evaluate only the labels "
            "that both have."
        )
    rules = rules_of_run(run.settings, run.images, root)[1]
    chosen = _choose(root, parts, [*space.names, *unknown], split, rules)
    lines = [f"{space.note[0].upper()}{space.note[1:]}."] if space.note else []
    if space.outputs is not None or (common_classes and not space.note):
        kept = [name for name in names if name in there]
        if len(kept) < 2:
            raise UserError(
                f"{root.folder} and the model have {count(len(kept), 'label')} in common, and an evaluation needs two. "
                f"The images have {enumerate_names(found)}; the model has {enumerate_names(names)}."
            )
        before = sum(len(samples) for samples in chosen.values())
        chosen = {part: _restrict(samples, [*names, *unknown], kept) for part, samples in chosen.items()}
        left = before - sum(len(samples) for samples in chosen.values())
        if not space.note:
            lines.append(
                f"Only the {len(kept)} classes that both have: {count(left, 'image')} with other labels left out, and "
                f"the model's other {len(names) - len(kept)} outputs ignored."
            )
        outputs = [number for number, name in enumerate(names) if name in there]
        names = kept
    whole, splits = Samples.of([]), list[str]()
    for part, samples in chosen.items():
        whole = whole + samples
        splits += [part] * len(samples)
    if not len(whole):
        raise UserError(f"{root.folder} has no labeled images to evaluate; check --data.root and --split.")
    trained = len(chosen["train"]) if rules is not None and "train" in chosen else 0
    return EvaluationSet(
        whole,
        splits,
        names,
        outputs,
        _columns(root, whole),
        (_describe(root, whole, chosen), *lines, *_warn_of_training(trained, len(whole))),
        trained,
    )


def _parts(root: ImageRoot, split: SplitChoice) -> list[SplitName]:
    """Return the splits of the data set to list; those of a data set without splits are all in ``train``."""
    source = root.source
    if not source.has_splits:
        return ["train"]
    there: list[SplitName] = [part for part in SPLIT_NAMES if source.labels(part) is not None]
    if split == "all":
        return there
    if split not in there and not (split == "val" and "train" in there):
        raise UserError(
            f"{root.folder} has no {split} split; it has {' and '.join(there)}. Give one of them with --split, or "
            "leave it out to evaluate all labeled images."
        )
    return [split if split in there else "train"]


def _choose(
    root: ImageRoot, parts: Sequence[SplitName], names: Sequence[str], split: SplitChoice, rules: SplitRules | None
) -> dict[str, Samples]:
    """Return the images by split; an unknown split is the empty text."""
    source = root.source
    listed: dict[str, Samples] = {
        part: samples for part in parts if (samples := source.evaluated(part, names)) is not None
    }
    if "train" not in listed or source.labels("val") is not None:
        return listed
    if rules is None:  # images that the run has not seen, or nothing is known of a run
        if split == "all" or (source.has_splits and split == "train"):
            return {(part if source.has_splits else ""): samples for part, samples in listed.items()}
        raise UserError(
            f"{root.folder} has no {split} split, and the checkpoint's run has not divided it. Leave out --split to "
            "evaluate all labeled images."
        )
    own = _divided(source, names, rules) | {part: samples for part, samples in listed.items() if part != "train"}
    if split == "all":
        return own
    if split not in own:
        raise UserError(f"{root.folder} has no {split} split; give --split train, val or all.")
    return {split: own[split]}


def _divided(source: Source, names: Sequence[str], rules: SplitRules) -> dict[str, Samples]:
    """Return the images as a run divided them; those that a few-shot subset left out are ``unused``."""
    train, val = replace(rules, per_class=None).training(source, names)
    if rules.per_class is None:
        return {"train": train, "val": val}
    few, _ = rules.training(source, names)
    chosen = set(few.paths)
    is_chosen = np.array([path in chosen for path in train.paths])
    return {"train": few, "val": val, "unused": train.take(~is_chosen)}


def _restrict(samples: Samples, names: Sequence[str], kept: Sequence[str]) -> Samples:
    """Return the images with one of the kept labels, numbered in their order; several labels lose the others."""
    numbers = np.full(len(names), -1, dtype=np.int32)
    index = {name: number for number, name in enumerate(names)}
    numbers[[index[name] for name in kept]] = np.arange(len(kept))
    labels = numbers[samples.labels]
    if samples.counts is None:
        return samples.take(labels >= 0).relabeled(numbers)
    owners = samples.owners()[labels >= 0]
    counts = np.bincount(owners, minlength=len(samples)).astype(np.int32)
    labels = labels[labels >= 0]
    labels = labels[np.lexsort((labels, owners))]
    return Samples(samples.paths, labels, counts, samples.weights, samples.groups)


def _columns(root: ImageRoot, samples: Samples) -> Mapping[str, Sequence[str] | NDArray[np.float64]]:
    if not is_table(root.folder):
        return {}
    return extra_columns(root.folder, samples.paths, root.columns, image_suffixes(root.in_chans))


def _describe(root: ImageRoot, whole: Samples, chosen: Mapping[str, Samples]) -> str:
    classes = len(np.unique(whole.labels))
    text = f"{count(len(whole), 'image')} of {count(classes, 'class', 'classes')} in {root.folder}"
    parts = [f"{len(samples):,} {part}" for part, samples in chosen.items() if part]
    return f"{text} ({', '.join(parts)})" if parts else text


def _warn_of_training(trained: int, images: int) -> tuple[str, ...]:
    if not trained:
        return ()
    return (
        f"The model was trained on {trained:,} of these {images:,} images, so the metrics are too high; --split val "
        "leaves them out.",
    )
