"""InceptionNeXt's token mixer in the blocks of MetaFormer (arXiv 2210.13452) and Swin Transformer (arXiv 2103.14030).

The models are timm's, with the mixers of each stage as an argument. Their blocks have a residual connection for the
mixer and one for the MLP, where a MetaNeXt block has one for both.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from timm.layers import PatchEmbed
from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, MetaFormer, SepConv
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor, nn

from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.convolutions import PatchConv2d, StemConv2d
from inceptionnext_lit.models.layers import init_weights
from inceptionnext_lit.models.mixers import InceptionDWConv2d
from inceptionnext_lit.models.registry import Variant, register

MetaFormerMixer = Literal["inception", "conv", "attention"]
SwinMixer = Literal["inception", "attention"]


class MetaFormerInception(InceptionDWConv2d):
    """InceptionDWConv2d with the arguments that MetaFormer passes to each mixer.

    Args:
        dim: Channels C.
        proj_drop: Has no effect: there is no projection.
        device: Device of the parameters.
        dtype: Type of the parameters.
    """

    def __init__(
        self,
        dim: int,
        proj_drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(dim)
        self.to(device=device, dtype=dtype)


class HybridMetaFormer(MetaFormer, Backbone):  # type: ignore[misc]  # timm has no types
    """MetaFormer with a mixer for each stage (MetaFormer baselines, arXiv 2210.13452, section 2).

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: timm's name of a pooling.
        depths: Blocks per stage.
        dims: Channels per stage.
        mixers: Per stage: ``"inception"``, ``"conv"`` (ConvFormer's separable convolution) or ``"attention"``
            (CAFormer's self-attention over all positions).
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 3.

    Raises:
        ValueError: If a mixer is unknown or there is not one for each stage.
        UserError: If (in ``forward``) an image is too small or has another number of channels.
    """

    first_conv: ClassVar[str] = "stem.conv"
    classifier_name: ClassVar[str] = "head.fc.fc2"
    is_sequential: ClassVar[bool] = True

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (64, 128, 320, 512),
        mixers: Sequence[MetaFormerMixer] = ("inception", "inception", "inception", "inception"),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        _check_mixers(mixers, get_args(MetaFormerMixer), len(depths))
        classes = {"inception": MetaFormerInception, "conv": SepConv, "attention": Attention}
        super().__init__(
            in_chans,
            num_classes,
            global_pool,
            depths=tuple(depths),
            dims=tuple(dims),
            token_mixers=[classes[mixer] for mixer in mixers],
            norm_layers=[LayerNormNoBias if mixer == "attention" else LayerNorm2dNoBias for mixer in mixers],
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
        conv = StemConv2d(in_chans, dims[0], 7, 4, min_size=3, padding=2)
        init_weights(conv)
        cast(nn.Module, self.stem).conv = conv

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stem, then stages (``coarse``) or blocks, then head."""
        fine = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}


class InceptionSwinBlock(nn.Module):
    """Swin's block with InceptionDWConv2d in the place of its window attention.

    Args:
        block: Swin's block, whose norms, MLP and stochastic depth it takes.

    Shape:
        ``(N, H, W, C)`` to ``(N, H, W, C)``.
    """

    def __init__(self, block: SwinTransformerBlock) -> None:
        super().__init__()
        self.norm1 = block.norm1
        self.token_mixer = InceptionDWConv2d(block.dim)
        self.drop_path1 = block.drop_path1
        self.norm2 = block.norm2
        self.mlp = block.mlp
        self.drop_path2 = block.drop_path2
        self.token_mixer.apply(init_weights)

    def set_input_size(
        self, feat_size: tuple[int, int], window_size: tuple[int, int], always_partition: bool | None = None
    ) -> None:
        """Do nothing, since the block has no windows; Swin calls this for each block."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions, then channels, each with a residual connection."""
        normed = self.norm1(x).permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
        x = x + self.drop_path1(self.token_mixer(normed).permute(0, 2, 3, 1))
        out: Tensor = x + self.drop_path2(self.mlp(self.norm2(x)))
        return out


class HybridSwin(SwinTransformer, Backbone):  # type: ignore[misc]  # timm has no types
    """Swin Transformer with a mixer for each stage (arXiv 2103.14030, section 3).

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: timm's name of a pooling.
        img_size: Side in pixels, or height and width, up to which windows are limited to the map's size. Images of any
            size can be processed.
        embed_dim: Channels of the first stage; each further stage has twice as many.
        depths: Blocks per stage.
        num_heads: Attention heads per stage; has no effect for ``"inception"``.
        window_size: Side of a window of the attention, in positions.
        mlp_ratio: Hidden channels of the MLP over a stage's channels.
        mixers: Per stage: ``"inception"``, or ``"attention"`` in shifted windows.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``.

    Raises:
        ValueError: If a mixer is unknown or there is not one for each stage.
        UserError: If (in ``forward``) an image has another number of channels.
    """

    first_conv: ClassVar[str] = "patch_embed.proj"
    returns_maps: ClassVar[bool] = False
    classifier_name: ClassVar[str] = "head.fc"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        img_size: int | tuple[int, int] = 224,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        mixers: Sequence[SwinMixer] = ("inception", "inception", "inception", "inception"),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        _check_mixers(mixers, get_args(SwinMixer), len(depths))
        super().__init__(
            img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
            dynamic_img_size=True,
            mlp_ratio=mlp_ratio,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            embed_layer=partial(PatchEmbed, dynamic_img_pad=True),  # patches of any image
        )
        # PatchEmbed pads smaller images to a patch
        cast(nn.Module, self.patch_embed).proj = PatchConv2d(in_chans, embed_dim, 4, min_size=1)
        for stage, mixer in zip(cast(nn.Sequential, self.layers), mixers, strict=True):
            if mixer == "inception":
                stage.blocks = nn.Sequential(*map(InceptionSwinBlock, cast(nn.Sequential, stage.blocks)))


def _check_mixers(mixers: Sequence[str], known: Sequence[str], stages: int) -> None:
    if unknown := set(mixers) - set(known):
        raise ValueError(f"unknown mixer {min(unknown)!r}; the mixers are {', '.join(known)}")
    if len(mixers) != stages:
        raise ValueError(f"{len(mixers)} mixers for {stages} stages")


# InceptionDWConv2d has almost no multiply-adds, unlike the mixers that it replaces. Depths, and in one case the width,
# are adapted such that parameters and multiply-adds are within 2% of ConvFormer-S18's, CAFormer-S18's and Swin-T's.
_CONVFORMER = dict(depths=(4, 5, 15, 4))  # instead of (3, 3, 9, 3)
_CAFORMER = dict(depths=(5, 5, 9, 3), mixers=("inception", "inception", "attention", "attention"))
_SWIN = dict(embed_dim=88, depths=(4, 5, 9, 4))  # instead of 96 and (2, 2, 6, 2)
_SWIN_STAGES12 = dict(depths=(3, 3, 6, 2), mixers=("inception", "inception", "attention", "attention"))

HYBRIDS: tuple[Variant, ...] = (
    Variant("convformer_s18_inception", HybridMetaFormer, _CONVFORMER, 26.56, 4.0147, crop_pct=1.0),
    Variant("caformer_s18_inception", HybridMetaFormer, _CAFORMER, 26.37, 4.1513, crop_pct=1.0),
    Variant("swin_tiny_inception", HybridSwin, _SWIN, 28.38, 4.4732),
    Variant("swin_tiny_inception_stages12", HybridSwin, _SWIN_STAGES12, 28.29, 4.4304),
)
register(HYBRIDS)
