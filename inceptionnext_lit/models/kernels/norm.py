"""BatchNorm after a token mixer, with statistics that the mixer's kernel computes from its outputs.

In training, BatchNorm reads a map once for its statistics and once to normalize it; the first is saved.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.convolutions import autocast
from inceptionnext_lit.models.kernels.operators import has_hooks
from inceptionnext_lit.models.kernels.precision import sum_dtype
from inceptionnext_lit.models.mixers import DepthwiseMixer


def mix_and_normalize(mixer: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """Compute ``norm(mixer(x))``, for a BatchNorm in training and a mixer with kernels by fewer passes over the map.

    Args:
        mixer: A token mixer.
        norm: The norm of its outputs.
        x: Map ``(N, C, H, W)``.
    """
    if not isinstance(mixer, DepthwiseMixer) or not isinstance(norm, nn.BatchNorm2d) or not _joins(mixer, norm, x):
        plain: Tensor = norm(mixer(x))
        return plain
    y, mean, variance = mixer.fused_with_moments(autocast(x))
    if norm.track_running_stats:
        _update(norm, mean, variance, x.shape[0] * x.shape[2] * x.shape[3])
    out: Tensor = _Normalization.apply(y, mean, variance, norm.weight, norm.bias, norm.eps)
    return out


def _joins(mixer: DepthwiseMixer, norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Return whether a norm is a plain one in training whose statistics the mixer's kernel computes for ``x``."""
    if not norm.training or type(norm) is not nn.BatchNorm2d or not mixer.runs_kernels(x):
        return False
    if has_hooks(mixer) or has_hooks(norm):
        return False
    tensors = [tensor for tensor in (norm.weight, norm.running_mean) if tensor is not None]
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    return positions > 1 and all(tensor.dtype == sum_dtype(x) for tensor in tensors)


def _update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Average the running statistics with a batch's as BatchNorm does, with its unbiased variance."""
    factor = 0.0 if norm.momentum is None else norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            factor = 1 / float(norm.num_batches_tracked)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.mul_(1 - factor).add_(mean, alpha=factor)
        norm.running_var.mul_(1 - factor).add_(variance, alpha=factor * (count / (count - 1)))


class _Normalization(torch.autograd.Function):
    """Normalize with a batch's statistics, through which the gradient passes as if they were computed here."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.eps = eps
        ctx.save_for_backward(y, weight, mean, torch.rsqrt(variance + eps))
        return functional.batch_norm(y, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, mean, inverse = ctx.saved_tensors
        mask = [ctx.needs_input_grad[0], weight is not None, weight is not None]
        of_y, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], y, weight, None, None, mean, inverse, True, ctx.eps, mask
        )
        return of_y, None, None, of_weight, of_bias, None
