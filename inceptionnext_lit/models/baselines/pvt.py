"""Pyramid Vision Transformer (arXiv 2102.12122): four stages with spatial-reduction attention and a class token."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.staged import STRIDES, StagedBackbone
from inceptionnext_lit.models.baselines.tokens import (
    TOKEN,
    LastNorm,
    TransformerBlock,
    init_linear,
    make_token_pool,
    to_map,
    to_tokens,
)
from inceptionnext_lit.models.convolutions import PatchConv2d
from inceptionnext_lit.models.features import Indices
from inceptionnext_lit.models.isotropic import resample_grid
from inceptionnext_lit.models.layers import check_heads, linear_rates
from inceptionnext_lit.models.registry import Variant

_TRAINED = 224  # side in pixels of the images for which the position embeddings are stored


class ReducedAttention(nn.Module):
    """Attention to keys and values of a reduced map (arXiv 2102.12122, section 3.3).

    Args:
        dim: Channels C.
        num_heads: Number of heads; divides C.
        reduction: Side R of the patches that a strided convolution joins to one key and value; 1 for plain attention.

    Shape:
        ``(N, L, C)`` to ``(N, L, C)``; L is H * W, or one more with a class token and a reduction of 1.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, reduction: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, reduction, stride=reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(dim) if reduction > 1 else None

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Attend from each token to the positions of the reduced map."""
        n, length, c = x.shape
        query = self.q(x).reshape(n, length, self.num_heads, c // self.num_heads).transpose(1, 2)
        if self.sr is not None and self.norm is not None:
            x = self.norm(to_tokens(self.sr(to_map(x, height, width))))  # (N, HW, C) -> (N, HW / R², C)
        pairs = self.kv(x).reshape(n, x.shape[1], 2, self.num_heads, c // self.num_heads)
        key, value = pairs.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, HW / R², C / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, c))
        return out


class PatchEmbedding(nn.Module):
    """Patches with a norm and a learned position embedding, which is resampled to the map's size.

    Args:
        proj: Convolution over the patches.
        side: Side in positions of the stored embedding.

    Shape:
        ``(N, C, H, W)`` to ``(N, C', H / P, W / P)``.
    """

    def __init__(self, proj: nn.Conv2d, side: int) -> None:
        super().__init__()
        self.proj = proj
        self.norm = nn.LayerNorm(proj.out_channels)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, proj.out_channels, side, side), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches and add their positions."""
        x = self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # the norm is over (N, H, W, C)
        return x + resample_grid(self.pos_embed, x.shape[-2], x.shape[-1], "bilinear")


class PVTStage(nn.Module):
    """Patch embedding and blocks (arXiv 2102.12122, section 3.2).

    Args:
        embed: The patch embedding.
        blocks: Blocks over tokens, called with the map's height and width.

    Attributes:
        cls_token: The class token ``(1, 1, C')``, which is put before the positions; None for none.

    Shape:
        ``(N, C, H, W)`` to ``(N, C', H', W')``, or with a class token to tokens ``(N, 1 + H' * W', C')``.
    """

    def __init__(self, embed: PatchEmbedding, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.cls_token: nn.Parameter | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches and run the blocks."""
        x = self.embed(x)
        height, width = x.shape[-2:]
        tokens = to_tokens(x)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        return to_map(tokens, height, width) if self.cls_token is None else tokens


class PVT(StagedBackbone):
    """Four stages of transformer blocks over ever larger patches (arXiv 2102.12122, section 3.1).

    With ``global_pool="token"``, the last stage has a class token, and ``forward_features`` returns its tokens. There
    is none with another pooling, nor as a body for dense prediction, where the last map is computed without it as in
    the authors' code. The class token's own position is part of it.

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: ``"token"``, ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately.
        depths: Blocks per stage.
        dims: Channels per stage.
        num_heads: Heads per stage.
        mlp_ratios: Hidden channels of the MLPs over the stage's channels, per stage.
        reductions: Side of the patches that are joined to one key and value, per stage; the last is 1.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 32.

    Raises:
        UserError: If ``global_pool`` is none of the above, or (in ``forward``) an image is too small or has another
            number of channels.
    """

    first_conv: ClassVar[str] = "stages.0.embed.proj"
    returns_maps: ClassVar[bool] = False

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = TOKEN,
        depths: Sequence[int] = (3, 4, 6, 3),
        dims: Sequence[int] = (64, 128, 320, 512),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[float] = (8, 8, 4, 4),
        reductions: Sequence[int] = (8, 4, 2, 1),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        stages = []
        for i, (depth, dim, heads, ratio, side) in enumerate(
            zip(depths, dims, num_heads, mlp_ratios, reductions, strict=True)
        ):
            proj = nn.Conv2d(dims[i - 1], dim, 2, 2) if i else PatchConv2d(in_chans, dim, STRIDES[0], STRIDES[-1])
            blocks = [
                TransformerBlock(ReducedAttention(dim, heads, side), dim, ratio, next(rates), eps=1e-6)
                for _ in range(depth)
            ]
            stages.append(PVTStage(PatchEmbedding(proj, _TRAINED // STRIDES[i]), blocks))
        super().__init__(
            stages, dims, LastNorm(dims[-1], eps=1e-6), in_chans=in_chans, num_classes=num_classes, drop_rate=drop_rate
        )
        self.apply(init_linear)
        self._set_pool(global_pool)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of the last stage's tokens before those of its positions: 1 with a class token."""
        return int(self.global_pool == TOKEN)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the feature maps of selected stages, without the class token.

        Args:
            x: Images ``(N, in_chans, H, W)``.
            indices: Stages to return; the last n for an int, all for None.
            norm: Whether to normalize the last stage's map, if it is selected.
            stop_early: Whether to stop after the last requested stage.
            output_fmt: ``"NCHW"``.
            intermediates_only: Whether to leave out the last output.

        Returns:
            The selected maps; or what ``forward_features`` returns, or the last computed map, and the selected ones.

        Raises:
            UserError: If ``output_fmt`` is not ``"NCHW"``.
        """
        out = super().forward_intermediates(x, indices, norm, stop_early, output_fmt, intermediates_only=False)
        last, maps = cast(tuple[Tensor, list[Tensor]], out)
        stride = STRIDES[len(self.stages) - 1]
        height, width = x.shape[-2] // stride, x.shape[-1] // stride
        maps = [to_map(one, height, width) if one.ndim == 3 else one for one in maps]
        return maps if intermediates_only else (last, maps)

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what ``forward_intermediates`` does not need for these stages.

        Args:
            indices: As for ``forward_intermediates``.
            prune_norm: Whether to remove the final norm; always done if stages are removed.
            prune_head: Whether to remove the Linear and the class token; always done if stages are removed.

        Returns:
            The indices of the stages, counted from the front.
        """
        count = len(self.stages)
        wanted = super().prune_intermediate_layers(indices, prune_norm, prune_head)
        if self.global_pool == TOKEN and (prune_head or len(self.stages) < count):
            self._set_pool("avg")
        return wanted

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the Linear, and the pooling if ``global_pool`` is given; the class token comes or goes with it."""
        if global_pool is not None:
            self._set_pool(global_pool)
        super().reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Return the name of the class token, the only parameter besides biases and norms without weight decay."""
        return {name for name, _ in self.named_parameters() if name.endswith("cls_token")}

    def _set_pool(self, global_pool: str) -> None:
        self.pool = make_token_pool(global_pool).train(self.training)
        self.global_pool = global_pool
        last = cast(PVTStage, self.stages[-1])
        if global_pool != TOKEN:
            last.cls_token = None
        elif last.cls_token is None:
            empty = last.embed.pos_embed.new_empty(1, 1, self.num_features)
            last.cls_token = nn.Parameter(nn.init.trunc_normal_(empty, std=0.02))


def _variant(name: str, depths: tuple[int, ...], params_m: float, macs_g: float, top1: float) -> Variant:
    args: dict[str, Any] = {"depths": depths}
    url = f"https://github.com/whai362/PVT/releases/download/v2/{name}.pth"
    source = "PVT (arXiv 2102.12122), Table 2"
    return Variant(name, PVT, args, params_m, macs_g, top1, source, tag="whai362_in1k", url=url)


ROWS: tuple[Variant, ...] = (
    _variant("pvt_tiny", (2, 2, 2, 2), 13.23, 1.9430, 75.1),
    _variant("pvt_small", (3, 4, 6, 3), 24.49, 3.8330, 79.8),
    _variant("pvt_medium", (3, 4, 18, 3), 44.21, 6.6849, 81.2),
    _variant("pvt_large", (3, 8, 27, 3), 61.37, 9.8500, 81.7),
)
