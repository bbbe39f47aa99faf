"""Token mixers: the part of a MetaNeXt block that lets positions talk to each other.

Each is a module over ``(N, C, H, W)`` that keeps the shape. A block gets one as a class or a
``functools.partial`` and calls it with the channel count alone; the convolutional ones also take
``dilation``, which only a dilated stage passes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class InceptionDWConv2d(nn.Module):
    """Depthwise convolution in four branches (InceptionNeXt, arXiv 2303.16900, section 3.2).

    The channels are cut into identity | square ``k×k`` | band ``1×k`` | band ``k×1``, in this order,
    each branch but the identity holding ``int(dim * branch_ratio)`` channels.

    Args:
        dim: Channels C.
        square_kernel_size: Side of the square kernel in pixels, odd.
        band_kernel_size: Long side of the two band kernels in pixels, odd.
        branch_ratio: Share of the channels that one convolution branch gets.
        dilation: Distance between kernel taps in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If the three branches hold no channel or more channels than there are, or a kernel is even.
    """

    def __init__(
        self,
        dim: int,
        square_kernel_size: int = 3,
        band_kernel_size: int = 11,
        branch_ratio: float = 0.125,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        branch = int(dim * branch_ratio)
        if not 0 < 3 * branch <= dim:
            raise ValueError(
                f"branch_ratio {branch_ratio} of {dim} channels gives three branches of {branch} channels; "
                f"each needs at least 1 and at most {dim // 3}"
            )
        square_pad = _same_padding(square_kernel_size, dilation)
        band_pad = _same_padding(band_kernel_size, dilation)
        self.dwconv_hw = nn.Conv2d(
            branch, branch, square_kernel_size, padding=square_pad, dilation=dilation, groups=branch
        )
        self.dwconv_w = nn.Conv2d(
            branch, branch, (1, band_kernel_size), padding=(0, band_pad), dilation=(1, dilation), groups=branch
        )
        self.dwconv_h = nn.Conv2d(
            branch, branch, (band_kernel_size, 1), padding=(band_pad, 0), dilation=(dilation, 1), groups=branch
        )
        self.split_sizes = [dim - 3 * branch, branch, branch, branch]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve three groups of channels, each its own way, and pass the first ones through."""
        identity, square, wide, high = torch.split(x, self.split_sizes, dim=1)
        return torch.cat((identity, self.dwconv_hw(square), self.dwconv_w(wide), self.dwconv_h(high)), dim=1)


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
        identity, convolved = torch.split(x, self.split_sizes, dim=1)
        return torch.cat((identity, self.dwconv(convolved)), dim=1)


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
