"""The isotropic, one-stage form of MetaNeXt, built like a ViT (arXiv 2303.16900, Table 3)."""

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.convolutions import PatchConv2d
from inceptionnext_lit.models.features import Indices, intermediates, take_levels
from inceptionnext_lit.models.layers import (
    ConvMlp,
    FeatureInfo,
    checkpoint_block,
    checkpoint_blocks,
    init_weights,
    linear_rates,
    make_classifier,
    make_pool,
)
from inceptionnext_lit.models.metanext import LayerFactory, MetaNeXtBlock, MlpFactory
from inceptionnext_lit.models.mixers import InceptionDWConv2d


class IsotropicMetaNeXt(Backbone):
    """Patch stem, identical blocks without LayerScale, pooling, LayerNorm and Linear.

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled and normalized features.
        global_pool: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs
            ``(N, num_classes, H / P, W / P)``, or ``C`` channels without classes.
        img_size: Side in pixels, or height and width, of the stored position embedding, which is resampled for images
            of other sizes. Has no effect without one.
        patch_size: Side P of a patch in pixels.
        dim: Channels C.
        depth: Number of blocks.
        token_mixer: Class or partial called with the channel count.
        norm_layer: Class or partial called with the channel count, for the norms inside the blocks.
        mlp_layer: Class or partial called with the channels and the hidden channels.
        mlp_ratio: Hidden channels of the MLP over C.
        pos_embed: Whether to add a learned position embedding to the patches.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least P.

    Raises:
        UserError: If ``global_pool`` is none of the above, or (in ``forward``) an image is smaller than a patch or has
            another number of channels.
    """

    first_conv: ClassVar[str] = "stem"
    classifier_name: ClassVar[str] = "head"
    is_sequential: ClassVar[bool] = True

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        dim: int = 384,
        depth: int = 18,
        token_mixer: LayerFactory = InceptionDWConv2d,
        norm_layer: LayerFactory = nn.BatchNorm2d,
        mlp_layer: MlpFactory = ConvMlp,
        mlp_ratio: float = 4.0,
        pos_embed: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = dim
        self.stem = PatchConv2d(in_chans, dim, patch_size, min_size=patch_size)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        grid = torch.zeros(1, dim, height // patch_size, width // patch_size)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(grid, std=0.02)) if pos_embed else None
        block = partial(
            MetaNeXtBlock,
            dim,
            token_mixer=token_mixer,
            norm_layer=norm_layer,
            mlp_layer=mlp_layer,
            mlp_ratio=mlp_ratio,
            ls_init_value=None,
        )
        self.blocks = nn.Sequential(*(block(drop_path=rate) for rate in linear_rates(drop_path_rate, depth)))
        self.feature_info: FeatureInfo = [
            {"num_chs": dim, "reduction": patch_size, "module": f"blocks.{i}"} for i in range(depth)
        ]
        self.pool = make_pool(global_pool)
        self.norm: nn.Module = nn.LayerNorm(dim, eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = make_classifier(dim, num_classes)
        self.grad_checkpointing = False
        self.apply(init_weights)

    def _embed(self, x: Tensor) -> Tensor:
        """Embed patches and add their positions, ``(N, in_chans, H, W)`` to ``(N, C, H / P, W / P)``."""
        x = self.stem(x)
        return x if self.pos_embed is None else x + resample_grid(self.pos_embed, x.shape[-2], x.shape[-1])

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last block's map before the norm, ``(N, in_chans, H, W)`` to ``(N, C, H / P, W / P)``."""
        x = self._embed(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_blocks(self.blocks, x)
        features: Tensor = self.blocks(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the last map, or return the Linear's input with ``pre_logits``."""
        pools = self.global_pool != ""
        x = self.pool(x)  # (N, C, H, W) -> (N, C), or unchanged
        if not pools:
            x = x.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x = self.head_drop(self.norm(x))
        if not pre_logits:
            x = self.head(x)  # (N, C) -> (N, num_classes)
        return x if pools else x.permute(0, 3, 1, 2)  # (N, H, W, num_classes) -> (N, num_classes, H, W)

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
        """Compute the feature maps of selected blocks.

        Args:
            x: Images ``(N, in_chans, H, W)``.
            indices: Blocks to return; the last n for an int, all for None.
            norm: Whether to apply the final LayerNorm to each position of the selected maps. For classification it
                comes after pooling; the last map is returned without it, as ``forward_head`` expects.
            stop_early: Whether to stop after the last requested block.
            output_fmt: ``"NCHW"``.
            intermediates_only: Whether to leave out the last map.

        Returns:
            The selected maps, or the last computed map and the selected ones.

        Raises:
            UserError: If ``output_fmt`` is not ``"NCHW"``.
        """
        blocks = [partial(checkpoint_block, block) if self.grad_checkpointing else block for block in self.blocks]
        return intermediates(
            self._embed(x),
            blocks,
            indices,
            output_fmt=output_fmt,
            stop_early=stop_early,
            intermediates_only=intermediates_only,
            finish=self._normalized if norm else None,
        )

    def _normalized(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, C, H, W)
        return out

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
        last = max(wanted)
        self.blocks = self.blocks[: last + 1]
        if prune_norm:
            self.norm = nn.Identity().train(self.training)
        if prune_head:
            self.reset_classifier(0)
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the Linear."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the Linear, and the pooling if ``global_pool`` is given; ``""`` removes the pooling."""
        if global_pool is not None:
            self.pool = make_pool(global_pool).train(self.training)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = make_classifier(self.num_features, num_classes, like=self.stem.weight).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass, to save memory at the cost of time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stem, then each block, then norm and head."""
        return {"stem": r"^stem|^pos_embed", "blocks": r"^blocks\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides biases and norms."""
        return set() if self.pos_embed is None else {"pos_embed"}


@fx.wrap  # torch.fx cannot trace a choice by shape
def resample_grid(grid: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Resample a position embedding ``(1, C, h, w)`` to ``(1, C, height, width)``.

    The mode is ``"bicubic"``, with antialiasing, or ``"bilinear"``, without. A model exported for any size always
    resamples, since comparing a symbolic size would make it constant, and does so by matrix products, since not all
    formats have the antialiased resize.
    """
    is_symbolic = False
    if not torch.jit.is_scripting():
        sizes: tuple[Any, ...] = (height, width)
        is_symbolic = any(isinstance(size, torch.SymInt) for size in sizes)
        if is_symbolic and mode == "bicubic":
            down, across = _cubic_weights(grid, grid.shape[-2], height), _cubic_weights(grid, grid.shape[-1], width)
            return (down @ grid.float() @ across.T).to(grid.dtype)
    if not is_symbolic and height == grid.shape[-2] and width == grid.shape[-1]:
        return grid
    resampled = functional.interpolate(grid.float(), size=[height, width], mode=mode, antialias=mode == "bicubic")
    return resampled.to(grid.dtype)


def _cubic_weights(grid: Tensor, side: int, new_side: int) -> Tensor:
    """Return the weights of torch's antialiased bicubic resize of one axis, shape (new_side, side).

    The filter is Keys's with a = -0.5, stretched where the axis shrinks, and cut off at the ends.
    """
    pixel, place = torch.arange(side, device=grid.device), torch.arange(new_side, device=grid.device)
    length = place[-1:] + 1  # new_side as a tensor
    distance = (2 * pixel + 1).unsqueeze(0) * length - (2 * place + 1).unsqueeze(1) * side
    x = (distance.float() / (2 * torch.clamp(length, min=side)).float()).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    normalized: Tensor = weights / weights.sum(dim=1, keepdim=True)
    return normalized
