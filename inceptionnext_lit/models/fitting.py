"""Match a file's tensors to a model's: what fits where, what does not, and which model the file belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from inceptionnext_lit.models.formats import fit_shapes, rename
from inceptionnext_lit.models.registry import ROWS
from inceptionnext_lit.wording import count


@dataclass(frozen=True)
class Fit:
    """A file's tensors matched to a model's.

    Attributes:
        copies: Tensors to load, by the model's names and in its shapes.
        reinitialized: Classifier tensors that the model keeps, since the file has other classes.
        skipped: Classifier tensors of the file that the model has no use for.
        kept: BatchNorm counters that old files lack.
        missing: Names and shapes that only the model has.
        unexpected: Names and shapes that only the file has.
        misshapen: Names and both shapes, if these differ.
    """

    copies: dict[str, Tensor]
    reinitialized: tuple[str, ...]
    skipped: tuple[str, ...]
    kept: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def mismatches(self) -> int:
        """Number of tensors that do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def complaint(self) -> str:
        """Describe what does not fit, with the first few names of each kind."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "other shape": self.misshapen}
        return "; ".join(f"{kind}: {listed(names)}" for kind, names in kinds.items() if names)


def fit(tensors: Mapping[str, Tensor], model: nn.Module) -> Fit:
    """Match a file's tensors to a model's; the classifier may have other classes, the stem other channels.

    Args:
        tensors: Tensors by the model's names.
        model: The model; it is not changed.
    """
    own = model.state_dict()
    tensors = _adapt_stem(fit_shapes(tensors, own), own, stem_weights(model))
    classifier = _layers(model, "classifier")
    ours, theirs = ([name for name in names if _inside(name, classifier)] for names in (own, tensors))
    fresh = bool(ours) and _has_other_classes(tensors, own, ours, theirs)
    aside = {*ours, *theirs} if fresh or not ours else set()
    kept = [name for name in own.keys() - tensors.keys() if name.endswith("num_batches_tracked")]
    settled = {*aside, *kept, *(own.keys() & tensors.keys())}
    shared = [name for name in own if name in tensors and name not in aside]
    return Fit(
        copies={name: tensors[name] for name in shared if tensors[name].shape == own[name].shape},
        reinitialized=tuple(ours) if fresh else (),
        skipped=() if ours else tuple(theirs),
        kept=tuple(sorted(kept)),
        missing=tuple(f"{name} ({_shape(own[name])})" for name in own if name not in settled),
        unexpected=tuple(f"{name} ({_shape(tensors[name])})" for name in tensors if name not in settled),
        misshapen=tuple(
            f"{name} (file {_shape(tensors[name])}, model {_shape(own[name])})"
            for name in shared
            if tensors[name].shape != own[name].shape
        ),
    )


def classifier_tensors(model: nn.Module) -> set[str]:
    """Return the names of the tensors of a model's classifier."""
    layers = _layers(model, "classifier")
    return {name for name in model.state_dict() if _inside(name, layers)}


def stem_weights(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's weights that depend on the number of the image's channels, if they are known."""
    return tuple(f"{layer}.weight" for layer in _layers(model, "first_conv"))


def suggest(tensors: Mapping[str, Tensor], asked: str, written_for: str | None) -> str:
    """Say in a sentence which model of the registry's rows a file belongs to.

    Args:
        tensors: The file's tensors, by its own names.
        asked: The model that it does not fit.
        written_for: The model named by the file, or None.
    """
    if written_for == asked:
        return f"It was also saved from {asked}, but built with other arguments."
    if written_for is not None:
        return f"It was saved from {written_for} (--model.name {written_for})."
    renamed = rename(tensors)
    fits = {name: fit(renamed, _without_values(name)) for name in _of_nearest_form(renamed)}
    if complete := [name for name, one in fits.items() if one.mismatches == 0]:
        return f"It fits {' or '.join(f'{name} (--model.name {name})' for name in complete)}."
    nearest = max(fits, key=lambda name: len(fits[name].copies) - fits[name].mismatches)
    good, bad = len(fits[nearest].copies), fits[nearest].mismatches
    if good == 0:
        return f"None of its tensors has the name of one of the model's; its first are {listed(list(tensors))}."
    if nearest == asked:
        return f"All its other {count(good, 'tensor')} fit {asked}."
    if good == 0:
        return "It fits no model of this package."
    return f"The nearest model of this package is {nearest}: {good} tensors fit it and {bad} do not."


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return the first few names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _of_nearest_form(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the rows of the classes whose first row has the largest share of its names in a file."""
    rows: dict[type, list[str]] = {}
    for row in ROWS.values():
        rows.setdefault(row.form, []).append(row.name)
    own = {form: _without_values(names[0]).state_dict().keys() for form, names in rows.items()}
    shares = {form: len(names & tensors.keys()) / len(names) for form, names in own.items()}
    return [name for form, names in rows.items() if shares[form] == max(shares.values()) for name in names]


@cache
def _without_values(name: str) -> nn.Module:
    """Create a model on the meta device, for its names and shapes."""
    with torch.device("meta"):
        return cast(nn.Module, timm.create_model(name))


def _layers(model: nn.Module, role: str) -> tuple[str, ...]:
    """Return the names of a model's first convolutions or classifiers, given by timm's ``pretrained_cfg``."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get(role)
    get_classifier = getattr(model, "get_classifier", None)
    if names is None and role == "classifier" and get_classifier is not None:
        last = get_classifier()
        names = [name for name, module in model.named_modules() if module is last]
    if names is None and role == "first_conv":  # a model that was not built by timm
        names = getattr(model, "first_conv", None)
    return (names,) if isinstance(names, str) else tuple(names or ())


def _inside(name: str, layers: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{layer}.") for layer in layers)


def _adapt_stem(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    adapted = dict(tensors)
    for name in names:
        if name not in tensors or name not in own:
            continue
        theirs, ours = tensors[name].shape, own[name].shape
        if len(theirs) == len(ours) == 4 and theirs[1] != ours[1] and (theirs[0], *theirs[2:]) == (ours[0], *ours[2:]):
            adapted[name] = adapt_input_conv(ours[1], tensors[name], base_chans=theirs[1])
    return adapted


def _has_other_classes(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], ours: list[str], theirs: list[str]
) -> bool:
    """Return whether the file has no classifier, or one that differs only in the number of classes."""
    if not theirs:
        return True
    same_inputs = set(ours) == set(theirs) and all(tensors[name].shape[1:] == own[name].shape[1:] for name in ours)
    return same_inputs and any(tensors[name].shape != own[name].shape for name in ours)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
