"""Fold a BatchNorm's scale and shift into the convolution before or after it.

Both are computed in double precision. A module that knows how its own parts fold has a method ``deployed``, which
``models.deploy`` calls.
"""

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from inceptionnext_lit.models.convolutions import PatchConv2d, ScaledConv2d, StemConv2d


@runtime_checkable
class Deployable(Protocol):
    """A module with an inference form of its own."""

    def deployed(self) -> nn.Module:
        """Return what computes the same in evaluation mode with fewer operations.

        It may be the module itself, changed, and it may share tensors with it. Deployable parts of the module have
        been replaced before.
        """


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution or BatchNorm and nothing more.

    Other subclasses do more than their weights say: timm's pad, activate or standardize.
    """
    return type(layer) in (nn.Conv2d, StemConv2d, PatchConv2d, ScaledConv2d, nn.BatchNorm2d)


def fold_into_next(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Fold a BatchNorm into the convolution after it, which must not pad; it is changed and returned."""
    scale, shift = (values.reshape(conv.groups, -1) for values in _affine(norm))
    weight = _double(conv.weight)
    groups = weight.reshape(conv.groups, -1, *weight.shape[1:])  # (groups, out / groups, in / groups, k, k)
    bias = torch.einsum("goikl,gi->go", groups, shift).flatten()
    if conv.bias is not None:
        bias = bias + _double(conv.bias)
    return set_weights(conv, torch.einsum("goikl,gi->goikl", groups, scale).reshape(weight.shape), bias)


def fold_into_previous(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Fold a BatchNorm into the convolution before it, which is changed and returned."""
    scale, shift = _affine(norm)
    bias = shift if conv.bias is None else shift + scale * _double(conv.bias)
    return set_weights(conv, _double(conv.weight) * scale.reshape(-1, 1, 1, 1), bias)


def scale_outputs(conv: nn.Conv2d, factors: Tensor) -> nn.Conv2d:
    """Multiply each output channel of a convolution by its element of ``factors`` (C,); it is changed and returned."""
    bias = torch.zeros_like(factors) if conv.bias is None else conv.bias * factors
    return set_weights(conv, conv.weight * factors.reshape(-1, 1, 1, 1), bias)


def set_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Replace a convolution's values in its own dtype, add a bias if it has none, and return it."""
    with torch.no_grad():
        conv.weight.copy_(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype).to(conv.weight.device))
    return conv


def _double(tensor: Tensor) -> Tensor:
    """Convert to float64, on the CPU because Apple's GPUs do not support it."""
    return (tensor if tensor.is_meta else tensor.detach().cpu()).double()


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return a BatchNorm's factor and summand of each channel."""
    mean, variance = _double(cast(Tensor, norm.running_mean)), _double(cast(Tensor, norm.running_var))
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * _double(norm.weight)
    shift = -mean * scale
    return scale, shift + _double(norm.bias) if norm.affine else shift
