"""iFormer, the Inception Transformer (arXiv 2205.12956): max pooling, convolution and attention side by side.

Each block divides its channels between a mixer of high frequencies (max pooling and a depthwise convolution) and one of
low frequencies (attention); deeper blocks give more of them to attention, the paper's frequency ramp.

The parameters inside blocks have the names of the authors' checkpoints (github.com/sail-sg/iFormer).
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from timm.layers import DropPath, LayerNorm2d
from torch import Tensor, fx, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.staged import STRIDES, StagedBackbone
from inceptionnext_lit.models.convolutions import ScaledConv2d, StemConv2d
from inceptionnext_lit.models.isotropic import resample_grid
from inceptionnext_lit.models.layers import ConvMlp, Gelu2d, init_weights, linear_rates
from inceptionnext_lit.models.registry import Variant

fx.wrap("resample_grid")  # torch.fx cannot trace a choice by shape


class HighMixer(nn.Module):
    """Mixer of high frequencies: a depthwise convolution of one half of the channels, max pooling of the other.

    Both halves become as wide as the input.

    Args:
        dim: Channels C, an even number.

    Shape:
        ``(N, C, H, W)`` to ``(N, 2C, H, W)``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.split_size = dim // 2
        self.conv1 = nn.Conv2d(dim // 2, dim, 1, bias=False)
        self.proj1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.proj2 = nn.Conv2d(dim // 2, dim, 1)
        self.act = Gelu2d()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the first half and pool the second one."""
        convolved, pooled = torch.split(x, self.split_size, dim=1)
        convolved = self.act(self.proj1(self.conv1(convolved)))
        pooled = self.act(self.proj2(self.pool(pooled)))
        return torch.cat((convolved, pooled), dim=1)


class LowMixer(nn.Module):
    """Mixer of low frequencies: attention between the averages of ``pool_size²`` positions.

    The last row or column of a map that ``pool_size`` does not divide is averaged over the positions that it has, where
    the authors' code fails.

    Args:
        dim: Channels C.
        num_heads: Number of attention heads; divides ``dim``.
        pool_size: Side of the averaged squares, in positions.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, num_heads: int, pool_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool_size = pool_size
        self.pool = nn.AvgPool2d(pool_size, ceil_mode=True, count_include_pad=False)
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each average to all averages, and repeat the result for the positions of each."""
        height, width = x.shape[-2:]
        pooled = self.pool(x) if self.pool_size > 1 else x
        n, c, h, w = pooled.shape
        qkv: Tensor = self.qkv(pooled.flatten(2).transpose(1, 2))  # (N, C, h, w) -> (N, hw, 3C)
        qkv = qkv.reshape(n, h * w, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (N, heads, hw, C / heads)
        out = functional.scaled_dot_product_attention(query, key, value)
        out = out.transpose(2, 3).reshape(n, c, h, w)  # (N, heads, hw, C / heads) -> (N, C, h, w)
        return functional.interpolate(out, size=(height, width)) if self.pool_size > 1 else out


class InceptionMixer(nn.Module):
    """Mixers of high and low frequencies side by side, fused by a depthwise convolution.

    Args:
        dim: Channels C.
        low_heads: Number of attention heads; the mixer of low frequencies gets the last ``low_heads * head_dim``
            channels, the other one the first ones.
        head_dim: Channels of a head.
        pool_size: Side of the squares that attention averages, in positions.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Raises:
        ValueError: If the other mixer's channels are not an even, positive number.
    """

    def __init__(self, dim: int, low_heads: int, head_dim: int, pool_size: int) -> None:
        super().__init__()
        low = low_heads * head_dim
        high = dim - low
        if high <= 0 or high % 2:
            raise ValueError(f"{low_heads} heads of {head_dim} leave {high} of {dim} channels; it must be 2, 4, 6, …")
        self.split_sizes = [high, low]
        self.high_mixer = HighMixer(high)
        self.low_mixer = LowMixer(low, low_heads, pool_size)
        self.conv_fuse = nn.Conv2d(2 * high + low, 2 * high + low, 3, padding=1, groups=2 * high + low, bias=False)
        self.proj = ScaledConv2d(2 * high + low, dim, 1)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Mix positions, and multiply each channel by its element of ``scale`` (C,), if given."""
        high, low = torch.split(x, self.split_sizes, dim=1)
        mixed = torch.cat((self.high_mixer(high), self.low_mixer(low)), dim=1)
        out: Tensor = self.proj(mixed + self.conv_fuse(mixed), scale)
        return out


class IFormerBlock(nn.Module):
    """Inception mixer and MLP, each after a LayerNorm and with a residual connection.

    Args:
        dim: Channels C.
        mixer: The block's mixer.
        mlp_ratio: Hidden channels of the MLP over C.
        ls_init_value: Initial value of both LayerScales; None omits them.
        drop_path: Probability of dropping a sample's branch in training.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(
        self, dim: int, mixer: InceptionMixer, mlp_ratio: float, ls_init_value: float | None, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.attn = mixer
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.mlp = ConvMlp(dim, int(mlp_ratio * dim))
        scales = [None if ls_init_value is None else nn.Parameter(torch.full((dim,), ls_init_value)) for _ in range(2)]
        self.layer_scale_1, self.layer_scale_2 = scales
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions, then channels."""
        x = x + self.drop_path(self.attn(self.norm1(x), self.layer_scale_1))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x), self.layer_scale_2))
        return out


class IFormerStage(nn.Module):
    """Embedding of patches, their positions, and blocks.

    Args:
        embed: ``(N, C_in, H, W)`` to ``(N, C, H', W')``.
        grid: Height and width of the stored position embedding, which is resampled for maps of other sizes: bilinearly,
            as in the authors' code.
        dim: Channels C.
        blocks: Over ``(N, C, H', W')``.
    """

    def __init__(self, embed: nn.Module, grid: tuple[int, int], dim: int, blocks: Sequence[IFormerBlock]) -> None:
        super().__init__()
        self.embed = embed
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, *grid, dim), std=0.02))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches and run the blocks."""
        x = self.embed(x)
        grid = self.pos_embed.permute(0, 3, 1, 2)  # (1, h, w, C) -> (1, C, h, w)
        out: Tensor = self.blocks(x + resample_grid(grid, x.shape[-2], x.shape[-1], "bilinear"))
        return out


class IFormer(StagedBackbone):
    """Four-stage backbone of Inception mixers (arXiv 2205.12956, section 3).

    In the first two stages, attention sees averages of 2×2 positions and blocks have no LayerScale; both as in the
    authors' code. Weight decay applies to position embeddings too: the authors' list of exceptions misses their names.

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs
            ``(N, num_classes, H / 32, W / 32)``, or ``C`` channels without classes.
        img_size: Side in pixels, or height and width, of the stored position embeddings, which are resampled for images
            of other sizes.
        depths: Blocks per stage.
        dims: Channels per stage.
        attention_heads: Heads of the mixer of low frequencies, per block.
        head_dim: Channels of a head.
        mlp_ratio: Hidden channels of the MLP over the stage's channels.
        ls_init_value: Initial value of the LayerScales of the last two stages.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 32.

    Raises:
        ValueError: If ``attention_heads`` has not one number per block, or leaves no even number of other channels.
        UserError: If ``global_pool`` is none of the above, or (in ``forward``) an image is too small or has another
            number of channels.
    """

    first_conv: ClassVar[str] = "stages.0.embed.0.0"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        img_size: int | tuple[int, int] = 224,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 320, 384),
        attention_heads: Sequence[int] = (1,) * 3 + (3,) * 3 + (7,) * 4 + (9,) * 5 + (11,) * 3,
        head_dim: int = 32,
        mlp_ratio: float = 4.0,
        ls_init_value: float = 1e-6,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if len(attention_heads) != sum(depths):
            raise ValueError(f"attention_heads has {len(attention_heads)} numbers for {sum(depths)} blocks")
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        heads = iter(attention_heads)
        stages = []
        for i, (dim, depth, stride) in enumerate(zip(dims, depths, STRIDES, strict=True)):
            mixer = partial(InceptionMixer, dim, head_dim=head_dim, pool_size=2 if i < 2 else 1)
            scale = None if i < 2 else ls_init_value
            blocks = [IFormerBlock(dim, mixer(next(heads)), mlp_ratio, scale, next(rates)) for _ in range(depth)]
            embed = _stem(in_chans, dim) if i == 0 else _halve(dims[i - 1], dim)
            stages.append(IFormerStage(embed, (_ceil(height, stride), _ceil(width, stride)), dim, blocks))
        super().__init__(
            stages, dims, LayerNorm2d(dims[-1], eps=1e-6), in_chans=in_chans, num_classes=num_classes,
            global_pool=global_pool, drop_rate=drop_rate,
        )  # fmt: skip
        self.apply(init_weights)


def _stem(in_chans: int, dim: int) -> nn.Sequential:
    """Create the embedding of patches of 4×4 pixels: two convolutions of stride 2."""
    first = StemConv2d(in_chans, dim // 2, 3, 2, min_size=STRIDES[-1], padding=1)
    return nn.Sequential(nn.Sequential(first, nn.BatchNorm2d(dim // 2)), Gelu2d(), _halve(dim // 2, dim))


def _halve(in_dim: int, dim: int) -> nn.Sequential:
    """Create a convolution that halves the sides of a map, and its norm."""
    return nn.Sequential(nn.Conv2d(in_dim, dim, 3, stride=2, padding=1), nn.BatchNorm2d(dim))


def _ceil(side: int, stride: int) -> int:
    """Return the side of the map of ``stride``: each padded convolution of stride 2 rounds up."""
    return -(-side // stride)


_URL = "https://huggingface.co/sail/dl2/resolve/main/iformer/iformer_"
_HEADS = (  # the frequency ramp: heads of the blocks of each size
    (*(1,) * 3, *(3,) * 3, *(7,) * 4, *(9,) * 5, *(11,) * 3),
    (*(1,) * 4, *(3,) * 6, *(8,) * 7, *(10,) * 7, *(15,) * 6),
    (*(1,) * 4, *(3,) * 6, *(10,) * 9, *(12,) * 9, *(19,) * 8),
)
_SMALL = dict(depths=(3, 3, 9, 3), dims=(96, 192, 320, 384), attention_heads=_HEADS[0])
_BASE = dict(depths=(4, 6, 14, 6), dims=(96, 192, 384, 512), attention_heads=_HEADS[1])
_LARGE = dict(depths=(4, 6, 18, 8), dims=(96, 192, 448, 640), attention_heads=_HEADS[2])
_row = partial(Variant, form=IFormer, source="arXiv 2205.12956", crop_pct=0.9, tag="sail_in1k")
ROWS: tuple[Variant, ...] = (
    _row("iformer_small", args=_SMALL, params_m=19.87, macs_g=4.8480, top1=83.4, url=_URL + "small.pth"),
    _row("iformer_base", args=_BASE, params_m=47.87, macs_g=9.3775, top1=84.6, url=_URL + "base.pth"),
    _row("iformer_large", args=_LARGE, params_m=86.64, macs_g=14.0461, top1=84.8, url=_URL + "large.pth"),
)
