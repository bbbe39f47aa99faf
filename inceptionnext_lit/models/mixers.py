"""Token mixers: the part of a MetaNeXt block that lets positions talk to each other.

Each is a module over ``(N, C, H, W)`` that keeps the shape. A block gets one as a class or a
``functools.partial`` and calls it with the channel count alone; the convolutional ones also take
``dilation``, which only a dilated stage passes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.convolutions import HorizontalConv2d, autocast

Branch = Literal["square", "horizontal", "vertical"]
_BRANCHES: tuple[Branch, ...] = get_args(Branch)


class InceptionDWConv2d(nn.Module):
    """Depthwise convolution in four branches (InceptionNeXt, arXiv 2303.16900, section 3.2).

    The channels are cut into identity | square ``k×k`` | horizontal band ``1×k`` | vertical band ``k×1``, in this
    order, each branch but the identity holding ``int(dim * branch_ratio)`` channels. Channels of a branch that is
    left out pass through with the identity.

    Args:
        dim: Channels C.
        square_kernel_size: Side of the square kernel in pixels, odd.
        band_kernel_size: Long side of the two band kernels in pixels, odd.
        branch_ratio: Share of the channels that one convolution branch gets.
        branches: The convolution branches that exist (the paper's ablation leaves out one).
        sequential_bands: Run both bands one after the other on one branch's channels, the horizontal one first,
            instead of each on its own (the paper's ablation).
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If the branches hold no channel or more channels than there are, a kernel is even, there is no
            branch of a name, or bands in sequence lack one.
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
            raise ValueError(f"there is no branch {min(unknown)!r}; there are {', '.join(_BRANCHES)}")
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
        """Convolve groups of channels, each its own way, and pass the first ones through."""
        # autocast would cast each group by itself, which is slower; fc1 needs the identity's in that precision too
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


class DepthwiseConv2d(nn.Module):
    """Square depthwise convolution of the last channels (ConvNeXt; partial form: arXiv 2303.16900, Table 10).

    Args:
        dim: Channels C.
        kernel_size: Side of the kernel in pixels, odd.
        conv_ratio: Share of the channels that is convolved, in (0, 1]; the others come first and pass through.
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If no channel or more channels than there are would be convolved, or the kernel is even.
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
        if self.split_sizes[0] == 0:  # no split and no copy where everything is convolved
            full: Tensor = self.dwconv(x)
            return full
        identity, rest = torch.split(autocast(x), self.split_sizes, dim=1)
        return torch.cat((identity, self.dwconv(rest)), dim=1)


class SelfAttention2d(nn.Module):
    """Multi-head self-attention over all positions of a map (MetaNeXt-Attn, arXiv 2303.16900, Table 3).

    Query, key and value have biases, as DeiT's do; the product is torch's fused attention.

    Args:
        dim: Channels C.
        num_heads: Attention heads; divides ``dim``.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {dim} channels")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Let every position gather from all others."""
        n, c, h, w = x.shape
        qkv: Tensor = self.qkv(x.flatten(2).transpose(1, 2))  # (N, C, H, W) -> (N, HW, 3C)
        qkv = qkv.reshape(n, h * w, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (N, heads, HW, C / heads)
        out = functional.scaled_dot_product_attention(query, key, value)
        tokens: Tensor = self.proj(out.transpose(1, 2).reshape(n, h * w, c))
        return tokens.transpose(1, 2).reshape(n, c, h, w)  # (N, HW, C) -> (N, C, H, W)


def _same_padding(kernel_size: int, dilation: int) -> int:
    """Padding on both sides that keeps the size of a map, in pixels."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel size {kernel_size} is even; a kernel needs a middle tap to keep the map's size")
    return dilation * (kernel_size - 1) // 2
