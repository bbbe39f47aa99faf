"""Translate between published weight names and ours, in both directions, without reading files.

* InceptionNeXt, from its authors or from timm: the same names as ours.
* ConvNeXt (github.com/facebookresearch/ConvNeXt), with four stages or one: other names, and Linear layers instead of
  our 1×1 convolutions. InceptionNeXt's authors publish their ConvNeXt-T variants in the same form.
* The systems of ``models.published``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.isotropic import resample_grid
from inceptionnext_lit.models.published import Rules, public_form, published_form

WeightSet = Literal["ema", "raw"]

_AVERAGED = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict")
_RAW = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
_EMA_PREFIX = "model_ema."
_PREFIXES = ("module.", "model.")
_DEEPEST = 3  # attributes of attributes of a user's module

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
    """One set of weights from a checkpoint.

    Attributes:
        tensors: Weights by name, without the prefixes of model wrappers.
        averaged: Whether they are a moving average.
        others: Names of tensors that are not the model's, such as a metric's.
    """

    tensors: dict[str, Tensor]
    averaged: bool
    others: tuple[str, ...] = ()


def unwrap(
    content: Mapping[str, Any], weights: WeightSet | None = None, *, source: str = "the checkpoint"
) -> Unwrapped:
    """Find a model's weights in the content of a file.

    Args:
        content: Tensors by name, or nested dictionaries of them, such as ``{"model": …, "model_ema": …}`` and
            Lightning's ``{"state_dict": {"model.…": …, "model_ema.module.…": …}}``.
        weights: Averaged or raw weights; None for averaged ones if there are any.
        source: What messages call the content.

    Raises:
        UserError: If there are no weights, or none of the requested kind, or there is no such kind.
    """
    if weights not in (None, "ema", "raw"):
        raise UserError(f"weights is {weights!r}, but it must be 'ema' or 'raw'.")
    found = {one.averaged: one for one in reversed(list(_weight_sets(content, averaged=False)))}
    if not found:
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise UserError(f"No weights in {source}; it contains {keys}.")
    averaged = True in found if weights is None else weights == "ema"
    if averaged not in found:
        asked, there = ("averaged", "raw") if averaged else ("raw", "averaged")
        raise UserError(f"No {asked} weights in {source}, only {there} ones; ask for those.")
    return found[averaged]


def below_attribute(
    found: Unwrapped, own: Iterable[str], names: Callable[[Mapping[str, Tensor]], Iterable[str]], *, source: str
) -> Unwrapped:
    """Take the weights below an attribute of a user's module, such as ``net.``, if a file has the model's only there.

    Args:
        found: The content of a file.
        own: Names of the model's weights.
        names: Returns our names of a file's tensors.
        source: What messages call the file.

    Returns:
        The tensors below the attribute with the model's first name and more than half of all; ``found`` if there is
        none.

    Raises:
        UserError: If there are several, such as a student and its teacher.
    """
    wanted = dict.fromkeys(own)
    first = next(iter(wanted), "")

    def is_model(tensors: Mapping[str, Tensor]) -> bool:
        found_names = wanted.keys() & set(names(tensors))
        return first in found_names and 2 * len(found_names) > len(wanted)  # the blocks alone may be another model's

    if is_model(found.tensors):
        return found
    for depth in range(1, _DEEPEST + 1):
        inside: dict[str, dict[str, Tensor]] = {}
        for name, tensor in found.tensors.items():
            parts = name.split(".")
            inside.setdefault(".".join(parts[:depth]), {})[".".join(parts[depth:])] = tensor
        fitting = [attribute for attribute, tensors in inside.items() if is_model(tensors)]
        if len(fitting) > 1:
            raise UserError(
                f"{source} has weights of {len(fitting)} such models, {' and '.join(fitting)}; save those of one."
            )
        if fitting:
            others = tuple(name for name in found.tensors if not name.startswith(f"{fitting[0]}."))
            return Unwrapped(inside[fitting[0]], found.averaged, found.others + others)
    return found


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a file's tensors to our names; the published form is recognized by the file's own names."""
    _, rules = _recognize(tensors)
    renamed = {_translate(name, rules): tensor for name, tensor in tensors.items()}
    form = published_form(tensors)
    return renamed if form is None else form.read(renamed)


def describe_names(tensors: Mapping[str, Tensor]) -> str:
    """Describe in which form a file was published."""
    return _recognize(tensors)[0]


def fit_shapes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reshape tensors to a model's shapes if only resolution can be lost.

    Linear weights ``(out, in)`` and those of 1×1 convolutions ``(out, in, 1, 1)`` are converted to each other; position
    embeddings, ``(1, C, h, w)`` or iFormer's ``(1, h, w, C)``, are resampled. Other tensors are returned unchanged.

    Args:
        tensors: Tensors by our names.
        own: The model's state dict.
    """
    return {name: _reshape(name, tensor, own[name]) if name in own else tensor for name, tensor in tensors.items()}


def checkpoint_filter(state_dict: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Convert the content of a published file to a model's own names and shapes, for timm's builders.

    Args:
        state_dict: The file's content; if it has raw and averaged weights, the averaged ones are used.
        model: A model of the family.
    """
    return fit_shapes(rename(unwrap(state_dict).tensors), model.state_dict())


def to_public(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Convert a model's names and shapes to those under which models of its kind are published.

    Args:
        state_dict: The model's weights, or averages of them.
        model: The model; ConvNeXt and its partial variants get ConvNeXt's names, the systems of ``models.published``
            theirs, and all others keep our names, which are the published ones.
    """
    if form := public_form(model.state_dict()):
        theirs_of = tuple((ours, theirs) for theirs, ours in form.rules)
        return {_translate(name, theirs_of): tensor for name, tensor in form.write(dict(state_dict)).items()}
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
    """Strip wrapper prefixes; tensors without a prefix that most others have are not the model's."""
    others: list[str] = []
    while 2 * len(inside := {n: t for n, t in tensors.items() if n.startswith(prefixes)}) > len(tensors):
        others += [name for name in tensors if name not in inside]
        tensors = {name.partition(".")[2]: tensor for name, tensor in inside.items()}
    return Unwrapped(tensors, averaged, tuple(others))


def _recognize(tensors: Mapping[str, Tensor]) -> tuple[str, Rules]:
    if any(name.startswith("downsample_layers.") for name in tensors):
        return "official ConvNeXt", (_PARTIAL_DWCONV, _DWCONV, *_FOUR_STAGES)
    if any(_pattern("blocks.#.pwconv1.").match(name) for name in tensors):
        return "official ConvNeXt, isotropic", _ISOTROPIC
    if form := published_form(tensors):
        return form.label, form.rules
    return "the model's own names", ()


def _published_rules(own: Mapping[str, Tensor]) -> Rules:
    mixers = [name for name in own if name.endswith(".token_mixer.dwconv.weight")]
    # ConvNeXt has a depthwise convolution, LayerNorms, and no MLP in its head
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
            return "".join(next(numbers) if char == "#" else char for char in target) + name[match.end() :]
    return name


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(re.escape(beginning).replace(r"\#", r"(\d+)"))


def _reshape(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    if tensor.shape == own.shape:
        return tensor
    if name == "pos_embed" and tensor.ndim == own.ndim == 4 and tensor.shape[:2] == own.shape[:2]:
        return resample_grid(tensor, own.shape[2], own.shape[3])
    if name.endswith(".pos_embed") and tensor.ndim == own.ndim == 4 and tensor.shape[::3] == own.shape[::3]:
        grid = tensor.permute(0, 3, 1, 2)  # (1, h, w, C) -> (1, C, h, w)
        return resample_grid(grid, own.shape[1], own.shape[2], "bilinear").permute(0, 2, 3, 1)
    dims = max(tensor.ndim, own.ndim)
    padded = [(*one.shape, *[1] * (dims - one.ndim)) for one in (tensor, own)]
    return tensor.reshape(own.shape) if padded[0] == padded[1] else tensor
