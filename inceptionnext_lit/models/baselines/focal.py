"""Focal Transformer: attention to near positions one by one and to far ones in summary (arXiv 2107.00641)."""

from collections.abc import Sequence
from typing import ClassVar

from timm.layers import DropPath, LayerNorm2d, Mlp
from torch import Tensor, nn

from inceptionnext_lit.models.baselines.focal_attention import FocalAttention
from inceptionnext_lit.models.baselines.staged import StagedBackbone
from inceptionnext_lit.models.convolutions import PatchConv2d, out_of_autocast
from inceptionnext_lit.models.layers import init_weights, linear_rates
from inceptionnext_lit.models.registry import Variant

PAPER = "arXiv 2107.00641"


class FocalBlock(nn.Module):
    """Focal attention and an MLP, each after a LayerNorm and with a residual, ``(N, H, W, C)`` to ``(N, H, W, C)``.

    Args:
        dim: Channels C.
        attn: The attention.
        mlp_ratio: Hidden features of the MLP over C.
        drop_path: Probability of dropping a sample's branch in training.
    """

    def __init__(self, dim: int, attn: FocalAttention, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(mlp_ratio * dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions, then channels."""
        x = out_of_autocast(x) + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class PatchEmbedding(nn.Module):
    """Convolution over patches and a LayerNorm, ``(N, C, H, W)`` to ``(N, H // P, W // P, C')``.

    Args:
        proj: The convolution, with stride P.
    """

    def __init__(self, proj: nn.Conv2d) -> None:
        super().__init__()
        self.proj = proj
        self.norm = nn.LayerNorm(proj.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches."""
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class FocalStage(nn.Module):
    """A patch embedding and blocks, ``(N, C, H, W)`` to ``(N, C', H', W')``.

    Args:
        embed: The patch embedding.
        blocks: The blocks.
    """

    def __init__(self, embed: PatchEmbedding, blocks: Sequence[FocalBlock]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Downsample and run the blocks."""
        out: Tensor = self.blocks(self.embed(x)).permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
        return out


class FocalTransformer(StagedBackbone):
    """Four stages of focal attention, and a LayerNorm of the last map (section 3.1 and Table 1).

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: See :class:`StagedBackbone`.
        depths: Blocks per stage.
        dims: Channels per stage.
        num_heads: Heads per stage.
        window_size: Side of a window in positions.
        expand_sizes: Positions on each side of a window that belong to its surroundings, per stage. There are none in
            the last stage, whose map is a single window for images of 224 pixels.
        focal_windows: Side of the region of summarized windows, per stage, odd.
        mlp_ratio: Hidden features of the MLPs over the stage's channels.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 32.

    Raises:
        UserError: If (in ``forward``) an image is too small or has another number of channels.
    """

    first_conv: ClassVar[str] = "stages.0.embed.proj"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = (2, 2, 6, 2),
        dims: Sequence[int] = (96, 192, 384, 768),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        expand_sizes: Sequence[int] = (3, 3, 3, 0),
        focal_windows: Sequence[int] = (7, 5, 3, 1),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        stages = []
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            proj = PatchConv2d(in_chans, dim, 4, min_size=32) if i == 0 else nn.Conv2d(dims[i - 1], dim, 2, stride=2)
            blocks = []
            for _ in range(depth):
                attn = FocalAttention(dim, num_heads[i], window_size, expand_sizes[i], focal_windows[i])
                blocks.append(FocalBlock(dim, attn, mlp_ratio, next(rates)))
            stages.append(FocalStage(PatchEmbedding(proj), blocks))
        super().__init__(
            stages,
            dims,
            LayerNorm2d(dims[-1], eps=1e-5),
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )
        self.apply(init_weights)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the position biases."""
        tables = ("window_bias", "near_bias", "pooled_bias")
        return {name for name, _ in self.named_parameters() if name.endswith(tables)}


_RELEASE = "https://projects4jw.blob.core.windows.net/model/focal-transformer/imagenet1k/focal-"
# fmt: off
ROWS: tuple[Variant, ...] = (
    Variant("focal_tiny", FocalTransformer, {"depths": (2, 2, 6, 2)}, 28.88, 4.9381, 82.2, PAPER,
            tag="ms_in1k", url=_RELEASE + "tiny-is224-ws7.pth", license="mit"),
    # the released weights are of a later training, with 83.6% (README)
    Variant("focal_small", FocalTransformer, {"depths": (2, 2, 18, 2)}, 51.14, 9.4526, 83.5, PAPER,
            tag="ms_in1k", url=_RELEASE + "small-is224-ws7.pth", license="mit"),
)
# fmt: on
