"""Tokens-to-Token ViT (arXiv 2101.11986): a deep and narrow ViT on tokens of overlapping patches."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.baselines.tokens import (
    TOKEN,
    LastNorm,
    TransformerBlock,
    init_linear,
    make_token_pool,
    to_map,
    to_tokens,
)
from inceptionnext_lit.models.baselines.tokens_to_token import STRIDE, TokensToToken
from inceptionnext_lit.models.features import Indices, intermediates, take_levels
from inceptionnext_lit.models.layers import FeatureInfo, check_heads, checkpoint_block, linear_rates, make_classifier
from inceptionnext_lit.models.positions import sinusoid
from inceptionnext_lit.models.registry import Variant


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens ``(N, L, C)``, without biases of query, key and value.

    Args:
        dim: Channels C.
        num_heads: Number of heads; divides C.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each token to all tokens."""
        n, length, c = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv.unbind(0))  # each (N, heads, L, C / heads)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, c))
        return out


class T2TViT(Backbone):
    """Tokens-to-token module, and blocks of a deep and narrow ViT (arXiv 2101.11986, section 3).

    With ``global_pool="token"``, there is a class token, and ``forward_features`` returns all tokens; with another
    pooling there is none, and it returns a map. Positions are numbered row by row, from 1 and with the class token as
    0, and embedded by sines and cosines, so the model has no fixed size.

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: ``"token"``, ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately.
        dim: Channels C of the blocks.
        depth: Number of blocks.
        num_heads: Number of heads; divides C.
        mlp_ratio: Hidden channels of the MLPs over C.
        token_dim: Channels of the tokens-to-token module.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 16.

    Raises:
        UserError: If ``global_pool`` is none of the above, or (in ``forward``) an image is too small or has another
            number of channels.
    """

    first_conv: ClassVar[str | None] = None
    returns_maps: ClassVar[bool] = False
    classifier_name: ClassVar[str] = "head"
    stride: ClassVar[int] = STRIDE

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = TOKEN,
        dim: int = 384,
        depth: int = 14,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        token_dim: int = 64,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = dim
        self.tokens_to_token = TokensToToken(in_chans, token_dim, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(SelfAttention(dim, num_heads), dim, mlp_ratio, rate, eps=1e-5)
            for rate in linear_rates(drop_path_rate, depth)
        )
        self.feature_info: FeatureInfo = [
            {"num_chs": dim, "reduction": STRIDE, "module": f"blocks.{i}"} for i in range(depth)
        ]
        self.norm: nn.Module = LastNorm(dim)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = make_classifier(dim, num_classes)
        self.grad_checkpointing = False
        self.cls_token: nn.Parameter | None = None
        self.apply(init_linear)
        self._set_pool(global_pool)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before those of the positions: 1 with a class token."""
        return int(self.cls_token is not None)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the normalized tokens ``(N, 1 + H * W, C)``; without a class token, the map ``(N, C, H, W)``."""
        tokens, height, width = self._embed(x)
        for block in self._levels():
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return to_map(tokens, height, width) if self.cls_token is None else tokens

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the features, or return the Linear's input with ``pre_logits``."""
        x = self.head_drop(self.pool(x))  # (N, C), or the map unchanged
        if pre_logits:
            return x
        if self.global_pool != "":
            logits: Tensor = self.head(x)  # (N, C) -> (N, num_classes)
            return logits
        per_position: Tensor = self.head(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, num_classes, H, W)
        return per_position

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: Indices = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute the feature maps of selected blocks, without the class token.

        Args:
            x: Images ``(N, in_chans, H, W)``.
            indices: Blocks to return; the last n for an int, all for None.
            norm: Whether to apply the final LayerNorm to the selected maps.
            stop_early: Whether to stop after the last requested block.
            output_fmt: ``"NCHW"``.
            intermediates_only: Whether to leave out the last output.

        Returns:
            The selected maps; or the last computed output, normalized and in the form of ``forward_features``, and the
            selected ones.

        Raises:
            UserError: If ``output_fmt`` is not ``"NCHW"``.
        """
        tokens, height, width = self._embed(x)

        def finish(kept: Tensor) -> Tensor:
            return to_map(self.norm(kept) if norm else kept, height, width)

        out = intermediates(
            tokens, self._levels(), indices,
            output_fmt=output_fmt, stop_early=stop_early, intermediates_only=False, finish=finish,
        )  # fmt: skip
        last, maps = cast(tuple[Tensor, list[Tensor]], out)
        if intermediates_only:
            return maps
        last = self.norm(last)
        return to_map(last, height, width) if self.cls_token is None else last, maps

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what ``forward_intermediates`` does not need for these blocks.

        Args:
            indices: As for ``forward_intermediates``.
            prune_norm: Whether to remove the final norm.
            prune_head: Whether to remove the Linear.

        Returns:
            The indices of the blocks, counted from the front.
        """
        wanted = take_levels(len(self.blocks), indices)
        self.blocks = self.blocks[: max(wanted) + 1]
        if prune_norm:
            self.norm = nn.Identity().train(self.training)
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the Linear."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the Linear, and the pooling if ``global_pool`` is given; the class token comes or goes with it."""
        if global_pool is not None:
            self._set_pool(global_pool)
        self.num_classes = num_classes
        like = self.tokens_to_token.project.weight
        self.head = make_classifier(self.num_features, num_classes, like=like).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass, to save memory at the cost of time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stem, then each block, then norm and head."""
        return {"stem": r"^tokens_to_token|^cls_token", "blocks": r"^blocks\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the name of the class token, the only parameter besides biases and norms without weight decay."""
        return set() if self.cls_token is None else {"cls_token"}

    def _embed(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Compute the blocks' input, with positions, and the height and width of its map."""
        x = self.tokens_to_token(x)
        height, width = x.shape[-2:]
        tokens = to_tokens(x)
        if self.cls_token is not None:
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        first = 1 - self.num_prefix_tokens
        positions = sinusoid(1 + height * width, self.num_features, tokens.device)[first:]
        return tokens + positions.to(tokens.dtype), height, width

    def _levels(self) -> list[Callable[[Tensor], Tensor]]:
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return [partial(checkpoint_block, block) for block in self.blocks]
        return list(self.blocks)

    def _set_pool(self, global_pool: str) -> None:
        self.pool = make_token_pool(global_pool).train(self.training)
        self.global_pool = global_pool
        if global_pool != TOKEN:
            self.cls_token = None
        elif self.cls_token is None:
            empty = self.tokens_to_token.project.weight.new_empty(1, 1, self.num_features)
            self.cls_token = nn.Parameter(nn.init.trunc_normal_(empty, std=0.02))


def _variant(name: str, args: dict[str, Any], params_m: float, macs_g: float, top1: float) -> Variant:
    number = name.rpartition("_")[2]
    url = f"https://github.com/yitu-opensource/T2T-ViT/releases/download/main/{top1}_T2T_ViT_{number}.pth.tar"
    return Variant(
        name, T2TViT, args, params_m, macs_g, top1, "T2T-ViT (arXiv 2101.11986), Table 2",
        crop_pct=0.9, tag="yitu_in1k", url=url, license="bsd-3-clause-clear",
    )  # fmt: skip


ROWS: tuple[Variant, ...] = (
    _variant("t2t_vit_14", dict(dim=384, depth=14, num_heads=6), 21.47, 4.8003, 81.5),
    _variant("t2t_vit_19", dict(dim=448, depth=19, num_heads=7), 39.09, 8.5027, 81.9),
)
