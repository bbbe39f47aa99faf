"""Token mixers: the part of a MetaNeXt block that exchanges information between positions.

Each is a module that maps ``(N, C, H, W)`` to the same shape. A block takes one as a class or a ``functools.partial``
and calls it with the channel count; the convolutional ones also take ``dilation``, which only dilated stages pass.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.convolutions import HorizontalConv2d, autocast
from inceptionnext_lit.models.kernels.operators import can_run, depthwise, depthwise_with_moments, is_supported
from inceptionnext_lit.models.layers import check_heads

Branch = Literal["square", "horizontal", "vertical"]
_BRANCHES: tuple[Branch, ...] = get_args(Branch)


class DepthwiseMixer(nn.Module):
    """A token mixer of depthwise convolutions that can run as Triton kernels (``models.kernels``).

    Attributes:
        kernels: ``"triton"`` to do so on a GPU, or ``"torch"``. Models that are traced or exported, dilated
            convolutions, and layers that were replaced or have hooks are computed by torch.
    """

    kernels: str = "torch"

    def launches(self) -> list[list[nn.Conv2d]]:
        """Return the convolutions of each kernel in sequence, in the order of their channels, which are the last."""
        raise NotImplementedError

    def runs_kernels(self, x: Tensor) -> bool:
        """Return whether Triton computes the output for ``x``."""
        if self.kernels != "triton" or not can_run(x):
            return False
        return all(is_supported(conv) for convs in self.launches() for conv in convs)

    def fused(self, x: Tensor) -> Tensor:
        """Compute the output with Triton."""
        for convs in self.launches():
            x = depthwise(x, *_parameters(convs))
        return x

    def fused_with_moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the output with Triton, and each channel's mean and biased variance ``(C,)``."""
        *others, last = self.launches()
        for convs in others:
            x = depthwise(x, *_parameters(convs))
        return depthwise_with_moments(x, *_parameters(last))


class InceptionDWConv2d(DepthwiseMixer):
    """Depthwise convolution in four branches (InceptionNeXt, arXiv 2303.16900, section 3.2).

    The channels are split into identity | square ``k×k`` | horizontal band ``1×k`` | vertical band ``k×1``, in this
    order; each convolution branch has ``int(dim * branch_ratio)`` channels. The channels of an omitted branch belong to
    the identity.

    Args:
        dim: Channels C.
        square_kernel_size: Side of the square kernel in pixels, odd.
        band_kernel_size: Long side of the two band kernels in pixels, odd.
        branch_ratio: Fraction of the channels in each convolution branch.
        branches: The convolution branches to use (the paper's ablation omits one).
        sequential_bands: Whether to apply both bands in sequence to the channels of one branch, the horizontal one
            first, instead of separately (the paper's ablation).
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If the branches have no channels or more than C, a kernel size is even, a branch is unknown, or
            ``sequential_bands`` lacks one of the bands.
    """

    def __init__(
        self,
        dim: int,
        square_kernel_size: int = 3,
        band_kernel_size: int = 11,
        branch_ratio: float = 0.125,
        branches: Sequence[Branch] = ("square", "horizontal", "vertical"),
        sequential_bands: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        if unknown := set(branches) - set(_BRANCHES):
            raise ValueError(f"unknown branch {min(unknown)!r}; the branches are {', '.join(_BRANCHES)}")
        if sequential_bands and not {"horizontal", "vertical"} <= set(branches):
            raise ValueError("sequential_bands needs the branches horizontal and vertical")
        self.sequential_bands = sequential_bands
        width, count = int(dim * branch_ratio), len(set(branches)) - sequential_bands
        if not 0 < count * width <= dim:
            raise ValueError(
                f"branch_ratio {branch_ratio} of {dim} channels gives {count} branches of {width} channels; "
                f"each needs at least 1 and at most {dim // max(count, 1)}"
            )
        conv = partial(nn.Conv2d, width, width, groups=width)
        square_pad = _same_padding(square_kernel_size, dilation)
        band_pad = _same_padding(band_kernel_size, dilation)
        self.dwconv_hw = self.dwconv_w = self.dwconv_h = None
        if "square" in branches:
            self.dwconv_hw = conv(square_kernel_size, padding=square_pad, dilation=dilation)
        if "horizontal" in branches:
            self.dwconv_w = HorizontalConv2d(width, band_kernel_size, padding=band_pad, dilation=dilation)
        if "vertical" in branches:
            self.dwconv_h = conv((band_kernel_size, 1), padding=(band_pad, 0), dilation=(dilation, 1))
        self.split_sizes = [dim - count * width] + [width] * count

    def forward(self, x: Tensor) -> Tensor:
        """Apply each branch to its group of channels, and pass the first group through."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript would compile both conditions
            if self.runs_kernels(x):
                return self.fused(autocast(x))
        # autocast would cast each group separately, which is slower; fc1 needs the identity in that dtype too
        groups = torch.split(autocast(x), self.split_sizes, dim=1)
        parts = [groups[0]]
        if self.dwconv_hw is not None:
            parts.append(self.dwconv_hw(groups[len(parts)]))
        if self.dwconv_w is not None:
            parts.append(self.dwconv_w(groups[len(parts)]))
        if self.dwconv_h is not None:
            group = parts.pop() if self.sequential_bands else groups[len(parts)]
            parts.append(self.dwconv_h(group))
        return torch.cat(parts, dim=1)

    def launches(self) -> list[list[nn.Conv2d]]:
        """Return the branches' convolutions, and those of a second band in sequence by themselves."""
        convs = [conv for conv in (self.dwconv_hw, self.dwconv_w, self.dwconv_h) if conv is not None]
        return [convs[:-1], convs[-1:]] if self.sequential_bands else [convs]


class DepthwiseConv2d(DepthwiseMixer):
    """Square depthwise convolution of the last channels (ConvNeXt; partial form: arXiv 2303.16900, Table 10).

    Args:
        dim: Channels C.
        kernel_size: Side of the kernel in pixels, odd.
        conv_ratio: Fraction of the channels to convolve, in (0, 1]; the others come first and pass through.
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If no channels or more than C would be convolved, or the kernel size is even.
    """

    def __init__(self, dim: int, kernel_size: int = 7, conv_ratio: float = 1.0, dilation: int = 1) -> None:
        super().__init__()
        convolved = int(dim * conv_ratio)
        if not 0 < convolved <= dim:
            raise ValueError(f"conv_ratio {conv_ratio} convolves {convolved} of {dim} channels; it needs 1 to {dim}")
        padding = _same_padding(kernel_size, dilation)
        self.dwconv = nn.Conv2d(convolved, convolved, kernel_size, padding=padding, dilation=dilation, groups=convolved)
        self.split_sizes = [dim - convolved, convolved]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the last channels and pass the first ones through."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript would compile both conditions
            if self.runs_kernels(x):
                return self.fused(autocast(x))
        if self.split_sizes[0] == 0:  # no split and no copy if all channels are convolved
            full: Tensor = self.dwconv(x)
            return full
        identity, rest = torch.split(autocast(x), self.split_sizes, dim=1)
        return torch.cat((identity, self.dwconv(rest)), dim=1)

    def launches(self) -> list[list[nn.Conv2d]]:
        """Return the convolution."""
        return [[self.dwconv]]


class SelfAttention2d(nn.Module):
    """Multi-head self-attention over all positions of a feature map (MetaNeXt-Attn, arXiv 2303.16900, Table 3).

    Query, key and value have biases, as in DeiT; the product is torch's fused attention.

    Args:
        dim: Channels C.
        num_heads: Number of attention heads; divides ``dim``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each position to all positions."""
        n, c, h, w = x.shape
        qkv: Tensor = self.qkv(x.flatten(2).transpose(1, 2))  # (N, C, H, W) -> (N, HW, 3C)
        qkv = qkv.reshape(n, h * w, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (N, heads, HW, C / heads)
        out = functional.scaled_dot_product_attention(query, key, value)
        tokens: Tensor = self.proj(out.transpose(1, 2).reshape(n, h * w, c))
        return tokens.transpose(1, 2).reshape(n, c, h, w)  # (N, HW, C) -> (N, C, H, W)


def _parameters(convs: list[nn.Conv2d]) -> tuple[list[Tensor], list[Tensor]]:
    return [conv.weight for conv in convs], [cast(Tensor, conv.bias) for conv in convs]


def _same_padding(kernel_size: int, dilation: int) -> int:
    """Return the padding on each side, in pixels, that keeps the size of a map."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel size {kernel_size} is even; only an odd kernel keeps the map's size")
    return dilation * (kernel_size - 1) // 2
