"""Parameters, multiply-adds and activations of a model, counted by fvcore on one image.

A multiply-add (MAC) is what the papers call a FLOP. As in the papers, matrix products and convolutions count without
biases, norms and global pooling with fvcore's small factors, and elementwise operations (additions, activation
functions, softmax, pooling windows, resizing) not at all. All other operators are listed in :attr:`Count.uncounted`.
"""

import logging
import warnings
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.decoders import SemanticFPN, UperNet
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.operators import HANDLES
from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.registry import ROWS
from inceptionnext_lit.wording import first_line

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts a loss with torch.jit on import
    from fvcore.nn import FlopCountAnalysis

Size = tuple[int, int]  # height and width in pixels
Channels = tuple[int, ...]  # of a model's feature maps

STRIDES = (4, 8, 16, 32)  # of the feature maps that a decoder takes
DECODERS: dict[str, type[nn.Module]] = {"UperNet": UperNet, "SemanticFPN": SemanticFPN}


@dataclass(frozen=True)
class Cost:
    """Cost of a model or a part of it.

    Attributes:
        params: Number of parameters.
        macs: Multiply-adds for one image.
        activations: Output elements of convolutions and matrix products for one image.
    """

    params: int
    macs: int
    activations: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs, self.activations + other.activations)


@dataclass(frozen=True)
class Count:
    """Cost of a model, in total and by module.

    Attributes:
        total: Cost of the whole model.
        modules: Cost of each module by name, including its children; the whole model is ``""``.
        uncounted: Operators that may do arithmetic but were not counted, with their number of calls.
        merged: Whether this is the cost of the model's inference form.
    """

    total: Cost
    modules: dict[str, Cost]
    uncounted: dict[str, int]
    merged: bool = False


def build_model(name: str, size: Size | None = None, **kwargs: Any) -> tuple[nn.Module, Size]:
    """Create a model for an image size.

    Args:
        name: Any timm model name, including this family's.
        size: Height and width in pixels; the model's own by default.
        kwargs: Further arguments of ``timm.create_model``.

    Returns:
        The model in evaluation mode, and the size.

    Raises:
        UserError: If the model is unknown, or it cannot be built for this size.
    """
    check_model_name(name)
    config = timm.get_pretrained_cfg(name)
    size = size or tuple(config.input_size[1:])
    if config.fixed_input_size:
        kwargs["img_size"] = size
    try:
        with _ZeroInit():
            return timm.create_model(name, **kwargs).eval(), size
    except Exception as error:  # another library's model may raise anything for an unexpected size
        raise _refused(name, size, error) from error


def count_model(name: str, size: Size | None = None) -> tuple[Count, Size]:
    """Count a model by name.

    Args:
        name: Any timm model name, including this family's.
        size: Height and width of the image in pixels; the model's own by default.

    Returns:
        The count, and its image size.

    Raises:
        UserError: If the model is unknown, or it cannot process images of this size.
    """
    model, size = build_model(name, size)
    channels = timm.get_pretrained_cfg(name).input_size[0]
    try:
        return _count_named(name, model, torch.zeros(1, channels, *size)), size
    except Exception as error:  # as above
        raise _refused(name, size, error) from error


def count_segmenter(name: str, decoder: str, size: Size) -> Count:
    """Count a model without its classifier and with a segmentation decoder on its four feature maps.

    Args:
        name: Any timm model with feature maps at strides 4, 8, 16 and 32, or with blocks of a single stride.
        decoder: ``"UperNet"`` or ``"SemanticFPN"``, for ADE20K's 150 classes.
        size: Height and width of the image in pixels, divisible by 256.

    Raises:
        UserError: If the model is unknown, has no such maps, or cannot process images of this size.
    """
    channels, below = _count_backbone(name, size)
    above = _count_decoder(decoder, channels, size)
    uncounted = Counter(below.uncounted) + Counter(above.uncounted)
    total = below.total + above.total
    return Count(total, {"": total, "backbone": below.total, "decoder": above.total}, dict(uncounted), below.merged)


def _count_backbone(name: str, size: Size) -> tuple[Channels, Count]:
    """Count a model's four feature maps, on a sixteenth of the image if the cost grows linearly with the area."""
    if timm.get_pretrained_cfg(name).fixed_input_size:
        return _count_maps(name, size)
    (_, small), (channels, large) = (_count_maps(name, (size[0] // part, size[1] // part)) for part in (8, 4))
    first, second = small.total, large.total
    if (second.macs, second.activations) != (4 * first.macs, 4 * first.activations):  # some kind of attention
        return _count_maps(name, size)
    total = Cost(second.params, 16 * second.macs, 16 * second.activations)
    return channels, Count(total, {"": total}, large.uncounted, large.merged)


def _count_maps(name: str, size: Size) -> tuple[Channels, Count]:
    backbone: Any = build_model(name, size, features_only=True)[0]
    strides = backbone.feature_info.reduction()
    if not set(STRIDES) <= set(strides):  # blocks of a single stride; other models are refused
        pyramid = feature_maps(build_model(name, size)[0], name).eval()
        return pyramid.channels, _count_named(name, pyramid, torch.zeros(1, 3, *size))
    if strides != list(STRIDES):  # models with a classification stem also have a level at stride 2
        levels = [strides.index(stride) for stride in STRIDES]
        backbone = build_model(name, size, features_only=True, out_indices=levels)[0]
    return tuple(backbone.feature_info.channels()), _count_named(name, backbone, torch.zeros(1, 3, *size))


@cache
def _count_decoder(decoder: str, channels: Channels, size: Size) -> Count:
    """Count a decoder alone; many backbones share one.

    At the paper's sizes it is most of the work. Its cost grows linearly with the number of positions, except for a part
    that pooling makes constant, so the counts at an eighth and a quarter of each side determine it exactly.
    """
    counts = []
    for part in (8, 4):
        sides = [(size[0] // part // stride, size[1] // part // stride) for stride in STRIDES]
        maps = [torch.zeros(1, width, *side) for width, side in zip(channels, sides, strict=True)]
        counts.append(count(DECODERS[decoder](channels).eval(), maps))
    (small, large), steps = (c.total for c in counts), (64 - 1) // (4 - 1)  # areas of 1, 4 and 64
    macs, activations = (
        first + (second - first) * steps
        for first, second in ((small.macs, large.macs), (small.activations, large.activations))
    )
    total = Cost(small.params, macs, activations)
    return Count(total, {"": total}, counts[0].uncounted)


def count(model: nn.Module, *inputs: Any) -> Count:
    """Count a module on example inputs.

    Args:
        model: Any module; it is run once in its current mode.
        inputs: Arguments of its ``forward``; use a single image to count a model per image.
    """
    logging.getLogger("fvcore").setLevel(logging.ERROR)  # its warnings are in Count.uncounted
    analysis = FlopCountAnalysis(model, inputs).clear_op_handles().set_op_handle(**HANDLES)
    analysis.tracer_warnings("none")
    with torch.no_grad():
        costs = analysis.by_module_and_operator()
    params = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_modules()}
    modules = {
        name: Cost(params[name], round(costs[name]["macs"]), round(costs[name]["activations"])) for name in params
    }
    return Count(modules[""], modules, dict(analysis.unsupported_ops()))


def _count_named(name: str, model: nn.Module, images: Tensor) -> Count:
    """Count a model or its backbone, in its inference form if the cost in its paper is that form's."""
    row = ROWS.get(name.partition(".")[0])
    merged = row is not None and row.counted_merged
    return replace(count(deploy(model) if merged else model, images), merged=merged)


def image_macs(model: nn.Module, shape: tuple[int, int, int]) -> int | None:
    """Count the multiply-adds of a model that is about to be trained.

    Args:
        model: Any model, on any device; it is not changed.
        shape: Channels, height and width of one image.

    Returns:
        The number of multiply-adds; None if the model cannot be traced or has an operator that cannot be counted.
    """
    try:
        counted = count(deepcopy(model).cpu().float().eval(), torch.zeros(1, *shape))
    except Exception:  # the tracer raises errors of many types, none of which should stop a training run
        return None
    return None if counted.uncounted else counted.total.macs


class _ZeroInit(TorchFunctionMode):
    """Initialize with zeros instead of random weights, which take longer to draw than to count and are not needed."""

    _DRAWS: ClassVar = {Tensor.uniform_, Tensor.normal_, Tensor.erfinv_}
    _INITIALIZERS: ClassVar = {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}  # draw outside of the mode

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS:
            return args[0].zero_()
        return nn.init.zeros_(kwargs["tensor"]) if func in self._INITIALIZERS else func(*args, **kwargs)


def _refused(name: str, size: Size, error: Exception) -> UserError:
    return UserError(
        f"The model {name!r} cannot process images of {size[0]}×{size[1]} pixels "
        f"({first_line(error)}); set another --image_size."
    )
