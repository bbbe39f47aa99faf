"""Depthwise convolutions in branches as operators of torch: on a GPU by one Triton kernel, elsewhere by torch.

They are opaque to ``torch.compile``, with fake tensors and gradients of their own, but cannot be differentiated twice.
Weights and biases are used in their own precision; autocast does not round them.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.convolutions import HorizontalConv2d, depthwise_gradients, is_symbolic
from inceptionnext_lit.models.kernels.precision import sum_dtype

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton then runs kernels on the CPU, slowly, for tests
_MAX_POSITIONS = 2**31 - 2**20  # positions are counted in 32 bits, and a kernel may count some blocks too far


def can_run(x: Tensor) -> bool:
    """Return whether kernels can process ``x`` here: on a GPU, and neither traced nor exported."""
    if is_symbolic(x) or torch.compiler.is_exporting():
        return False
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state():
        return False
    return x.device.type == "cuda" or INTERPRETED


def is_supported(conv: nn.Conv2d) -> bool:
    """Return whether the kernels can compute a mixer's convolution, which was not replaced and has no hooks."""
    if type(conv) not in (nn.Conv2d, HorizontalConv2d):
        return False
    return conv.dilation == (1, 1) and conv.bias is not None and not has_hooks(conv)


def has_hooks(module: nn.Module) -> bool:
    """Return whether something else than its parent expects a module to be called."""
    forward = bool(module._forward_hooks) or bool(module._forward_pre_hooks)
    return forward or bool(module._backward_hooks) or bool(module._backward_pre_hooks)


def depthwise(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Convolve the last channels of a map with zero padding, each with a kernel of its own.

    Args:
        x: Map ``(N, C, H, W)``.
        weights: One to three kernels ``(width, 1, kh, kw)`` of the same width and with odd sides, for the last channels
            in this order; the first channels pass through.
        biases: A bias ``(width,)`` for each kernel.

    Returns:
        The map ``(N, C, H, W)`` with channels-last strides, in the dtype of ``x``.

    Raises:
        ValueError: If the number, the widths or the sides of the kernels are none of these.
    """
    out: Tensor = torch.ops.inceptionnext_lit.depthwise(x, *_stack(weights, biases))
    return out


def depthwise_with_moments(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve as :func:`depthwise`, and return each channel's mean and biased variance ``(C,)`` as well.

    They are those of the rounded outputs, and have no gradients.
    """
    out: tuple[Tensor, Tensor, Tensor] = torch.ops.inceptionnext_lit.depthwise_with_moments(x, *_stack(weights, biases))
    return out


def _stack(weights: list[Tensor], biases: list[Tensor]) -> tuple[Tensor, list[int]]:
    """Return a matrix ``(rows, width)`` with a row for each tap and bias, and the kernels' heights and widths."""
    sizes = [size for weight in weights for size in weight.shape[2:]]
    if (
        not 1 <= len(weights) <= 3
        or len({len(weight) for weight in weights}) > 1
        or not all(size % 2 for size in sizes)
    ):
        raise ValueError("depthwise needs 1 to 3 kernels of the same width with odd sides")
    parts = zip(weights, biases, strict=True)
    return torch.cat([part for weight, bias in parts for part in (weight.flatten(1).t(), bias[None])]), sizes


@torch.library.custom_op("inceptionnext_lit::depthwise", mutates_args=())
def _depthwise(x: Tensor, taps: Tensor, sizes: list[int]) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    if _runs_triton(x):
        from inceptionnext_lit.models.kernels.depthwise import convolve

        return convolve(x, taps.contiguous(), sizes)
    return _convolve(x, taps, sizes, mirror=False)


@torch.library.custom_op("inceptionnext_lit::depthwise_with_moments", mutates_args=())
def _depthwise_with_moments(x: Tensor, taps: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    if _runs_triton(x):
        from inceptionnext_lit.models.kernels.moments import convolve_and_measure

        return convolve_and_measure(x, taps.contiguous(), sizes)
    y = _convolve(x, taps, sizes, mirror=False)
    variance, mean = torch.var_mean(y.to(sum_dtype(x)), (0, 2, 3), correction=0)
    return y, mean, variance


@torch.library.custom_op("inceptionnext_lit::depthwise_input_grad", mutates_args=())
def _input_grad(grad: Tensor, taps: Tensor, sizes: list[int]) -> Tensor:
    grad = grad.contiguous(memory_format=torch.channels_last)
    if _runs_triton(grad):
        from inceptionnext_lit.models.kernels.depthwise import convolve

        return convolve(grad, taps.contiguous(), sizes, mirror=True)
    return _convolve(grad, taps, sizes, mirror=True)


@torch.library.custom_op("inceptionnext_lit::depthwise_weight_grads", mutates_args=())
def _weight_grads(x: Tensor, grad: Tensor, width: int, sizes: list[int]) -> Tensor:
    x, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, grad))
    if _runs_triton(x):
        from inceptionnext_lit.models.kernels.weight_grads import weight_grads

        return weight_grads(x, grad, width, sizes)
    return _correlate(x, grad, width, sizes)


@_depthwise.register_fake
@_input_grad.register_fake
def _like(x: Tensor, taps: Tensor, sizes: list[int]) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@_depthwise_with_moments.register_fake
def _like_with_moments(x: Tensor, taps: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance = (x.new_empty(x.shape[1], dtype=sum_dtype(x)) for _ in range(2))
    return torch.empty_like(x, memory_format=torch.channels_last), mean, variance


@_weight_grads.register_fake
def _like_taps(x: Tensor, grad: Tensor, width: int, sizes: list[int]) -> Tensor:
    return x.new_empty((sum(h * w + 1 for h, w in _pairs(sizes)), width), dtype=sum_dtype(x))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, taps, ctx.sizes = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, taps)
    if isinstance(output, tuple):
        ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, taps = ctx.saved_tensors
    ops = torch.ops.inceptionnext_lit
    grad_x = ops.depthwise_input_grad(grad, taps, ctx.sizes) if ctx.needs_input_grad[0] else None
    if x is None:
        return grad_x, None, None
    grad_taps: Tensor = ops.depthwise_weight_grads(x, grad, taps.shape[1], ctx.sizes)
    return grad_x, grad_taps.to(taps.dtype), None


_depthwise.register_autograd(_differentiate, setup_context=_keep)
_depthwise_with_moments.register_autograd(_differentiate, setup_context=_keep)


def _runs_triton(x: Tensor) -> bool:
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    return (x.is_cuda or INTERPRETED) and 0 < positions <= _MAX_POSITIONS


def _pairs(sizes: list[int]) -> list[tuple[int, int]]:
    return list(zip(sizes[::2], sizes[1::2], strict=True))


def _convolve(x: Tensor, taps: Tensor, sizes: list[int], mirror: bool) -> Tensor:
    """Convolve each branch with torch."""
    width, branches = taps.shape[1], len(sizes) // 2
    groups = list(torch.split(x, [x.shape[1] - width * branches, *[width] * branches], dim=1))
    row = 0
    for i, (h, w) in enumerate(_pairs(sizes)):
        kernel = taps[row : row + h * w].to(x.dtype)
        weight = (kernel.flip(0) if mirror else kernel).t().reshape(width, 1, h, w)
        bias = None if mirror else taps[row + h * w].to(x.dtype)
        groups[i + 1] = functional.conv2d(groups[i + 1], weight, bias, padding=(h // 2, w // 2), groups=width)
        row += h * w + 1
    return torch.cat(groups, dim=1).contiguous(memory_format=torch.channels_last)


def _correlate(x: Tensor, grad: Tensor, width: int, sizes: list[int]) -> Tensor:
    """Compute the gradient of the matrix of taps with torch."""
    first = x.shape[1] - width * (len(sizes) // 2)
    rows = []
    for h, w in _pairs(sizes):
        grad_part, part = (tensor[:, first : first + width] for tensor in (grad, x))
        weight, padding = x.new_empty((width, 1, h, w)), (h // 2, w // 2)
        _, of_weight, of_bias = depthwise_gradients(grad_part, part, weight, padding, (1, 1), (False, True, True))
        assert of_weight is not None
        assert of_bias is not None
        rows += [of_weight.flatten(1).t(), of_bias[None]]
        first += width
    return torch.cat(rows).to(sum_dtype(x))
