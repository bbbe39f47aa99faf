"""The names under which weights are published and ours, as maps both ways. No file is read here.

* InceptionNeXt, from its authors or from timm: our own names.
* ConvNeXt (github.com/facebookresearch/ConvNeXt), four stages or one: names of its own, and Linear layers where ours
  are 1×1 convolutions. InceptionNeXt's authors publish their ConvNeXt-T variants in the same form.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.isotropic import resample_grid

WeightSet = Literal["ema", "raw"]
Rules = tuple[tuple[str, str], ...]  # beginnings of names, theirs and ours; each # is a number that both share

_AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict")
_RAW = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
_EMA_PREFIX = "model_ema."
_PREFIXES = ("module.", "model.")

_DWCONV = ("stages.#.#.dwconv.", "stages.#.blocks.#.token_mixer.dwconv.")
_PARTIAL_DWCONV = ("stages.#.#.dwconv.conv.", "stages.#.blocks.#.token_mixer.dwconv.")
_FOUR_STAGES: Rules = (
    ("downsample_layers.0.", "stem."),
    ("downsample_layers.#.", "stages.#.downsample."),
    ("stages.#.#.pwconv1.", "stages.#.blocks.#.mlp.fc1."),
    ("stages.#.#.pwconv2.", "stages.#.blocks.#.mlp.fc2."),
    ("stages.#.#.", "stages.#.blocks.#."),
    ("norm.", "head.norm."),
    ("head.", "head.fc2."),
)
_ISOTROPIC: Rules = (
    ("blocks.#.dwconv.", "blocks.#.token_mixer.dwconv."),
    ("blocks.#.pwconv1.", "blocks.#.mlp.fc1."),
    ("blocks.#.pwconv2.", "blocks.#.mlp.fc2."),
)


@dataclass(frozen=True)
class Unwrapped:
    """One set of weights out of a checkpoint.

    Attributes:
        tensors: The weights, by names without the prefixes that wrappers of a model leave.
        averaged: Whether they are a moving average.
        others: Names of tensors that stood beside the model's own, such as a metric's.
    """

    tensors: dict[str, Tensor]
    averaged: bool
    others: tuple[str, ...] = ()


def unwrap(
    content: Mapping[str, Any], weights: WeightSet | None = None, *, source: str = "the checkpoint"
) -> Unwrapped:
    """Find a model's weights in what was loaded from a file.

    Args:
        content: Names and tensors, or dictionaries that hold them, such as ``{"model": …, "model_ema": …}`` and
            Lightning's ``{"state_dict": {"model.…": …, "model_ema.module.…": …}}``.
        weights: Averaged or raw ones; None for averaged ones where there are any.
        source: What messages call the content.

    Raises:
        UserError: If there are no weights, or none of the kind that was asked for, or there is no such kind.
    """
    if weights not in (None, "ema", "raw"):
        raise UserError(f"weights is {weights!r}, but it must be 'ema' or 'raw'.")
    found = {one.averaged: one for one in reversed(list(_weight_sets(content, averaged=False)))}
    if not found:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UserError(f"There are no weights in {source}; it holds {keys}.")
    averaged = True in found if weights is None else weights == "ema"
    if averaged not in found:
        asked, there = ("averaged", "raw") if averaged else ("raw", "averaged")
        raise UserError(f"There are no {asked} weights in {source}, only {there} ones; ask for those.")
    return found[averaged]


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a file's tensors our names; its own names say in which form it was published."""
    _, rules = _recognise(tensors)
    return {_translate(name, rules): tensor for name, tensor in tensors.items()}


def describe_names(tensors: Mapping[str, Tensor]) -> str:
    """Say in a few words in which form a file was published."""
    return _recognise(tensors)[0]


def fit_shapes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors into a model's shapes where that loses nothing but resolution.

    Linear weights ``(out, in)`` and those of 1×1 convolutions ``(out, in, 1, 1)`` become each other; a position
    embedding ``(1, C, h, w)`` is resampled. Whatever fits neither way is returned as it is.

    Args:
        tensors: Tensors by our names.
        own: The model's state dict.
    """
    return {name: _reshape(name, tensor, own[name]) if name in own else tensor for name, tensor in tensors.items()}


def checkpoint_filter(state_dict: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Turn whatever was loaded from a published file into a model's own names and shapes; for timm's builders.

    Args:
        state_dict: The file's content; of raw and averaged weights the averaged ones are taken.
        model: A model of the family.
    """
    return fit_shapes(rename(unwrap(state_dict).tensors), model.state_dict())


def to_public(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Turn a model's own names and shapes into those under which models of its kind are published.

    Args:
        state_dict: The model's weights, or averages of them.
        model: The model, whose structure decides: ConvNeXt's names for ConvNeXt and its partial forms, our own
            (which are the public ones) for every other model.
    """
    rules = tuple((ours, theirs) for theirs, ours in _published_rules(model.state_dict()))
    public = {_translate(name, rules): tensor for name, tensor in state_dict.items()}
    return {name: tensor.flatten(1) if ".pwconv" in name and tensor.ndim > 1 else tensor
            for name, tensor in public.items()}  # fmt: skip


def _weight_sets(content: Mapping[str, Any], averaged: bool) -> Iterator[Unwrapped]:
    wrappers = [key for key in (*_AVERAGED, *_RAW) if isinstance(content.get(key), Mapping)]
    for key in wrappers:
        yield from _weight_sets(content[key], averaged or key in _AVERAGED)
    if wrappers:
        return
    tensors = {str(key).replace("_orig_mod.", ""): value for key, value in content.items() if isinstance(value, Tensor)}
    average = {name: tensor for name, tensor in tensors.items() if name.startswith(_EMA_PREFIX)}
    if average:
        yield _without_prefixes(average, averaged=True, prefixes=(_EMA_PREFIX, *_PREFIXES))
    if raw := {name: tensor for name, tensor in tensors.items() if name not in average}:
        yield _without_prefixes(raw, averaged, _PREFIXES)


def _without_prefixes(tensors: dict[str, Tensor], averaged: bool, prefixes: tuple[str, ...]) -> Unwrapped:
    """Strip wrappers' prefixes; where only most names have one, they are the model's and the rest are others."""
    others: list[str] = []
    while 2 * len(inside := {n: t for n, t in tensors.items() if n.startswith(prefixes)}) > len(tensors):
        others += [name for name in tensors if name not in inside]
        tensors = {name.partition(".")[2]: tensor for name, tensor in inside.items()}
    return Unwrapped(tensors, averaged, tuple(others))


def _recognise(tensors: Mapping[str, Tensor]) -> tuple[str, Rules]:
    if any(name.startswith("downsample_layers.") for name in tensors):
        return "official ConvNeXt", (_PARTIAL_DWCONV, _DWCONV, *_FOUR_STAGES)
    if any(_pattern("blocks.#.pwconv1.").match(name) for name in tensors):
        return "official ConvNeXt, isotropic", _ISOTROPIC
    return "the model's own names", ()


def _published_rules(own: Mapping[str, Tensor]) -> Rules:
    mixers = [name for name in own if name.endswith(".token_mixer.dwconv.weight")]
    # a depthwise convolution alone makes no ConvNeXt: that has LayerNorms, and no MLP in its head
    if not mixers or any(name.startswith("head.fc1.") or name.endswith("running_mean") for name in own):
        return ()
    if mixers[0].startswith("blocks."):
        return _ISOTROPIC
    partial = len(own[mixers[0]]) < len(own[mixers[0].replace("token_mixer.dwconv", "norm")])
    return (_PARTIAL_DWCONV if partial else _DWCONV, *_FOUR_STAGES)


def _translate(name: str, rules: Rules) -> str:
    for source, target in rules:
        if match := _pattern(source).match(name):
            numbers = iter(match.groups())
            return "".join(next(numbers) if sign == "#" else sign for sign in target) + name[match.end() :]
    return name


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(re.escape(beginning).replace(r"\#", r"(\d+)"))


def _reshape(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    if tensor.shape == own.shape:
        return tensor
    if name == "pos_embed" and tensor.ndim == own.ndim == 4 and tensor.shape[:2] == own.shape[:2]:
        return resample_grid(tensor, own.shape[2], own.shape[3])
    dims = max(tensor.ndim, own.ndim)
    padded = [(*one.shape, *[1] * (dims - one.ndim)) for one in (tensor, own)]
    return tensor.reshape(own.shape) if padded[0] == padded[1] else tensor
