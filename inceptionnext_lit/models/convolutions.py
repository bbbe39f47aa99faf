"""Convolutions with extra functions and the same parameters as ``torch.nn.Conv2d``."""

from typing import Any

import torch
from timm.models import register_notrace_module
from torch import Tensor, fx, nn
from torch.nn import functional

from inceptionnext_lit.errors import UserError

Pair = tuple[int, int]

# asked once, since Dynamo of torch 2.7 cannot trace the question
_HAS_AUTOCAST = {device: torch.amp.is_autocast_available(device) for device in ("cpu", "cuda", "mps", "xpu")}


def _has_autocast(device: str) -> bool:
    known = _HAS_AUTOCAST.get(device)
    return torch.amp.is_autocast_available(device) if known is None else known


def has_autocast_on(device: str) -> bool:
    """Return whether autocast is enabled for a type of device."""
    return _has_autocast(device) and torch.is_autocast_enabled(device)


@fx.wrap  # torch.fx cannot trace a choice by device
def autocast_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which autocast computes a convolution of ``x``; its own for float64 or without autocast."""
    if torch.jit.is_scripting():
        return x.dtype
    device = x.device.type
    if x.dtype != torch.float64 and has_autocast_on(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def autocast(x: Tensor) -> Tensor:
    """Cast ``x`` to the dtype in which autocast computes a convolution of it."""
    return x.to(autocast_dtype(x))


@fx.wrap
def out_of_autocast(x: Tensor) -> Tensor:
    """Cast half precision under autocast back to float32, for long sums that would lose precision."""
    if torch.jit.is_scripting():
        return x
    device = x.device.type
    if x.dtype not in (torch.float16, torch.bfloat16):
        return x
    return x.float() if has_autocast_on(device) else x


def is_symbolic(x: Tensor) -> bool:
    """Return whether ``x`` is a torch.fx proxy, whose dtype and device are unknown."""
    return isinstance(x, fx.Proxy)


class StemConv2d(nn.Conv2d):
    """A model's first convolution, which refuses images of the wrong size or channels.

    As it is a model's first layer, the check is kept however timm takes the model apart.

    Args:
        in_chans: Channels of the image.
        dim: Output channels C.
        kernel_size: Side of the kernel in pixels.
        stride: Stride in pixels.
        min_size: Minimum height and width in pixels that the whole model can process.
        padding: Zero padding on each side, in pixels.
        bias: Whether to add a bias.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, C, H', W')``.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        kernel_size: int,
        stride: int,
        min_size: int,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(in_chans, dim, kernel_size, stride=stride, padding=padding, bias=bias)
        self.min_size = min_size

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the images.

        Raises:
            UserError: If the image is smaller than the model's minimum size or has another number of channels.
        """
        x = check_images(x, self.in_channels, self.min_size)
        out: Tensor = self._conv_forward(x, self.weight, self.bias)
        return out


class PatchConv2d(StemConv2d):
    """First convolution over non-overlapping patches.

    Args:
        in_chans: Channels of the image.
        dim: Output channels C.
        patch_size: Side P of a patch in pixels.
        min_size: Minimum height and width in pixels that the whole model can process.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, C, H // P, W // P)``.
    """

    def __init__(self, in_chans: int, dim: int, patch_size: int, min_size: int) -> None:
        super().__init__(in_chans, dim, patch_size, patch_size, min_size)


@fx.wrap  # torch.fx cannot trace a choice by shape
def check_images(x: Tensor, channels: int, min_size: int) -> Tensor:
    """Return images unchanged.

    Args:
        x: Images ``(N, C, H, W)``.
        channels: The model's number of channels.
        min_size: Minimum height and width in pixels that the model can process.

    Raises:
        UserError: If they are smaller or have another number of channels.
    """
    _, found, height, width = x.shape
    if found != channels:
        raise UserError(f"The images have {found} channels, but this model was built for {channels}.")
    if height < min_size or width < min_size:
        raise UserError(
            f"An image of {height}×{width} pixels is too small: this model needs at least {min_size}×{min_size}."
        )
    return x


class ScaledConv2d(nn.Conv2d):
    """Convolution whose output channels can be scaled by scaling its weights, which are fewer.

    LayerScale then reads and writes no feature map, neither in the forward nor in the backward pass.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Convolve, and multiply each channel by its element of ``scale`` (C,), if given."""
        if torch.jit.is_scripting():  # TorchScript does not support autocast
            out: Tensor = self._conv_forward(x, self.weight, self.bias)
            return out if scale is None else out * scale.reshape(1, -1, 1, 1)
        if scale is None:
            return super().forward(x)
        # in float16, a scale of 1e-6 times a weight underflows to 0
        if is_symbolic(x) or autocast_dtype(self.weight) == torch.float16:
            return super().forward(x) * scale.reshape(1, -1, 1, 1)
        bias = None if self.bias is None else self.bias * scale
        scaled: Tensor = self._conv_forward(x, self.weight * scale.reshape(-1, 1, 1, 1), bias)
        return scaled


register_notrace_module(ScaledConv2d)  # timm's feature extraction keeps the cheaper path


class HorizontalConv2d(nn.Conv2d):
    """Depthwise convolution with a one-row kernel and a faster weight gradient on the CPU.

    oneDNN has fast kernels for the weight gradient of a k×1 kernel but not of a 1×k kernel, which takes several times
    as long. Both are the same sum over a map with height and width exchanged, at the cost of a copy.

    Args:
        channels: Channels C.
        kernel_size: Width of the kernel in pixels, odd.
        padding: Zero padding on the left and right, in pixels.
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)`` if the padding keeps the width.
    """

    def __init__(self, channels: int, kernel_size: int, padding: int, dilation: int = 1) -> None:
        super().__init__(
            channels, channels, (1, kernel_size), padding=(0, padding), dilation=(1, dilation), groups=channels
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each row."""
        if torch.jit.is_scripting():
            plain: Tensor = self._conv_forward(x, self.weight, self.bias)
            return plain
        if is_symbolic(x):
            return super().forward(x)
        trains = torch.is_grad_enabled() and self.weight.requires_grad and x.device.type == "cpu"
        if not trains or torch.compiler.is_compiling() or torch._C._get_tracing_state():
            return super().forward(x)
        dtype = autocast_dtype(x)
        weight, bias = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        out: Tensor = _HorizontalConvolution.apply(x.to(dtype), weight, bias, self.padding, self.dilation)
        return out


register_notrace_module(HorizontalConv2d)  # timm's feature extraction keeps the faster path


class _HorizontalConvolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Pair, dilation: Pair) -> Tensor:
        return functional.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.padding, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        grad_x, _, _ = depthwise_gradients(grads[0], x, weight, ctx.padding, ctx.dilation, (of_x, False, False))
        grad, x, weight = _exchange(grads[0]), _exchange(x), _exchange(weight)
        padding, dilation = ctx.padding[::-1], ctx.dilation[::-1]
        _, grad_weight, grad_bias = depthwise_gradients(grad, x, weight, padding, dilation, (False, of_weight, of_bias))
        return grad_x, None if grad_weight is None else grad_weight.transpose(2, 3), grad_bias, None, None


def depthwise_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, padding: Pair, dilation: Pair, needed: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the requested gradients of a depthwise convolution's input, weight and bias."""
    count = len(weight)
    grads: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        grad, x, weight, [count], [1, 1], padding, dilation, False, [0, 0], count, needed
    )
    return grads


def _exchange(x: Tensor) -> Tensor:
    """Exchange height and width, with channels-last strides."""
    return x.permute(0, 3, 2, 1).contiguous().permute(0, 3, 1, 2)  # (N, C, H, W) -> (N, W, H, C) -> (N, C, W, H)
