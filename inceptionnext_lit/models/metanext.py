"""MetaNeXt: the block of the whole family, and the four-stage backbone (arXiv 2303.16900, section 3).

Parameter names are those of the authors' checkpoints and of timm's ``inception_next_*``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from timm.layers import DropPath
from torch import Tensor, fx, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.backbone import Backbone
from inceptionnext_lit.models.convolutions import PatchConv2d, out_of_autocast
from inceptionnext_lit.models.features import Indices, intermediates, take_levels
from inceptionnext_lit.models.folding import fold_into_next, is_plain, scale_outputs
from inceptionnext_lit.models.kernels.norm import mix_and_normalize
from inceptionnext_lit.models.layers import (
    ConvMlp,
    FeatureInfo,
    MlpHead,
    checkpoint_blocks,
    init_weights,
    linear_rates,
    make_classifier,
)
from inceptionnext_lit.models.mixers import InceptionDWConv2d
from inceptionnext_lit.models.mlps import dilated

fx.wrap("out_of_autocast")  # torch.fx cannot trace a choice by dtype

LayerFactory = Callable[..., nn.Module]  # called with the channel count: a mixer or norm class, or a partial
MlpFactory = Callable[..., nn.Module]  # called with the channel count and the hidden width


class MetaNeXtBlock(nn.Module):
    """``x + LayerScale(MLP(Norm(TokenMixer(x))))``, with one residual (arXiv 2303.16900, section 3.1).

    Args:
        dim: Channels C.
        token_mixer: Class or partial called with ``dim``.
        norm_layer: Class or partial called with ``dim``; normalizes ``(N, C, H, W)``.
        mlp_layer: Class or partial called with ``dim`` and the hidden channels; its ``forward`` takes the map and
            LayerScale (C,) or None.
        mlp_ratio: Hidden channels of the MLP over C.
        ls_init_value: Initial value of LayerScale; None omits it.
        drop_path: Probability of dropping a sample's branch in training.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(
        self,
        dim: int,
        token_mixer: LayerFactory = InceptionDWConv2d,
        norm_layer: LayerFactory = nn.BatchNorm2d,
        mlp_layer: MlpFactory = ConvMlp,
        mlp_ratio: float = 4.0,
        ls_init_value: float | None = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.token_mixer = token_mixer(dim)
        self.norm = norm_layer(dim)
        self.mlp = mlp_layer(dim, round(mlp_ratio * dim))
        self.gamma = None if ls_init_value is None else nn.Parameter(ls_init_value * torch.ones(dim))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions, then channels, and add the result to the input."""
        if torch.jit.is_scripting():
            mixed = self.norm(self.token_mixer(x))
        else:
            mixed = mix_and_normalize(self.token_mixer, self.norm, x)
        branch: Tensor = self.mlp(mixed, self.gamma)
        # autocast computes the branch in half precision, but the sum over blocks, to which it adds little, in float32
        out: Tensor = self.drop_path(branch) + out_of_autocast(x)
        return out

    def deployed(self) -> nn.Module:
        """Fold the norm into ``fc1`` and LayerScale into ``fc2``, remove drop path, and return the block itself."""
        self.drop_path, mlp = nn.Identity(), self.mlp
        if isinstance(mlp, ConvMlp) and isinstance(self.norm, nn.BatchNorm2d) and is_plain(mlp.fc1):
            fold_into_next(self.norm, mlp.fc1)  # a 1×1 convolution, which does not pad
            self.norm = nn.Identity()
        if isinstance(mlp, ConvMlp) and self.gamma is not None and is_plain(mlp.fc2):
            scale_outputs(mlp.fc2, self.gamma)
            self.gamma = None
        return self


class MetaNeXtStage(nn.Module):
    """Blocks with the same number of channels, after an optional downsampling layer.

    Args:
        downsample: Layer before the blocks, ``(N, C_in, H, W)`` to ``(N, C, H', W')``.
        blocks: The stage's blocks, over ``(N, C, H', W')``.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[MetaNeXtBlock]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Downsample and run the blocks."""
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_blocks(self.blocks, x)
        out: Tensor = self.blocks(x)
        return out


class MetaNeXt(Backbone):
    """Four-stage backbone with strides 4, 8, 16 and 32 (arXiv 2303.16900, section 3.3 and Table 1).

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the input of the last Linear.
        global_pool: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs
            ``(N, num_classes, H / 32, W / 32)``, or ``head_hidden_size`` channels without classes.
        output_stride: Stride of the last map: 32, or 16 or 8 with dilation instead of downsampling.
        depths: Blocks per stage.
        dims: Channels per stage.
        token_mixer: Class or partial called with the channel count, and with ``dilation`` in a dilated stage.
        norm_layer: Class or partial called with the channel count.
        mlp_layer: Class or partial called with the channels and the hidden channels, and with ``dilation`` in a dilated
            stage if it has such an argument.
        mlp_ratios: Hidden channels of the MLP over the stage's channels, per stage.
        drop_rate: Dropout rate before the last Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.
        head_ratio: Hidden features of the head over its input's; None for ConvNeXt's head without an MLP.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least ``output_stride``.

    Raises:
        UserError: If ``output_stride`` or ``global_pool`` is none of the above, or ``forward`` refuses an image.
    """

    first_conv: ClassVar[str] = "stem.0"
    classifier_name: ClassVar[str] = "head.fc2"
    is_sequential: ClassVar[bool] = True

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        output_stride: int = 32,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        token_mixer: LayerFactory = InceptionDWConv2d,
        norm_layer: LayerFactory = nn.BatchNorm2d,
        mlp_layer: MlpFactory = ConvMlp,
        mlp_ratios: Sequence[float] = (4, 4, 4, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        head_ratio: int | None = 3,
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride is {output_stride}, but it must be 8, 16 or 32.")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.drop_rate = drop_rate
        self.stem = nn.Sequential(PatchConv2d(in_chans, dims[0], 4, min_size=output_stride), norm_layer(dims[0]))
        self.stages = nn.Sequential()
        self.feature_info: FeatureInfo = []
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        for i, (dim, depth, mlp_ratio) in enumerate(zip(dims, depths, mlp_ratios, strict=True)):
            stride = min(4 * 2**i, output_stride)
            dilation = 4 * 2**i // stride
            block = partial(
                MetaNeXtBlock,
                dim,
                token_mixer=partial(token_mixer, dilation=dilation) if dilation > 1 else token_mixer,
                norm_layer=norm_layer,
                mlp_layer=dilated(mlp_layer, dilation),
                mlp_ratio=mlp_ratio,
            )
            downsample = nn.Identity() if i == 0 else _downsample(dims[i - 1], dim, norm_layer, dilation)
            self.stages.append(MetaNeXtStage(downsample, [block(drop_path=next(rates)) for _ in range(depth)]))
            self.feature_info.append({"num_chs": dim, "reduction": stride, "module": f"stages.{i}"})
        self.num_features = dims[-1]
        self.head = MlpHead(self.num_features, head_ratio, num_classes, global_pool, drop_rate)
        self.head_hidden_size = self.head.num_features
        self.apply(init_weights)

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute the last stage's map, ``(N, in_chans, H, W)`` to ``(N, C, H / 32, W / 32)``."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the last map, or return the last Linear's input with ``pre_logits``."""
        out: Tensor = self.head(x, pre_logits=pre_logits)
        return out

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
        """Compute the feature maps of selected stages.

        Args:
            x: Images ``(N, in_chans, H, W)``.
            indices: Stages to return; the last n for an int, all for None.
            norm: Has no effect, since there is no norm after the last stage.
            stop_early: Whether to stop after the last requested stage.
            output_fmt: ``"NCHW"``.
            intermediates_only: Whether to leave out the last map.

        Returns:
            The selected maps, or the last computed map and the selected ones.

        Raises:
            UserError: If ``output_fmt`` is not ``"NCHW"``.
        """
        return intermediates(
            self.stem(x),
            list(self.stages),
            indices,
            output_fmt=output_fmt,
            stop_early=stop_early,
            intermediates_only=intermediates_only,
        )

    def prune_intermediate_layers(
        self, indices: Indices = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what ``forward_intermediates`` does not need for these stages.

        Args:
            indices: As for ``forward_intermediates``.
            prune_norm: Has no effect, like ``norm`` there.
            prune_head: Whether to reduce the head to its pooling; always done if stages are removed.

        Returns:
            The indices of the stages, counted from the front.
        """
        wanted = take_levels(len(self.stages), indices)
        last = max(wanted)
        if prune_head or last < len(self.stages) - 1:
            self.num_features = self.head_hidden_size = int(self.feature_info[last]["num_chs"])
            self.num_classes = 0
            self.head.remove_mlp(self.num_features)
        self.stages = self.stages[: last + 1]
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the last Linear."""
        return self.head.fc2

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last Linear, and the pooling if ``global_pool`` is given; ``""`` removes the pooling."""
        if global_pool is not None:
            self.head.set_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head.fc2 = make_classifier(self.head.num_features, num_classes, like=next(self.parameters()))
        self.head.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass, to save memory at the cost of time."""
        for stage in self.stages:
            cast(MetaNeXtStage, stage).grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that group parameters by depth: stem, then stages (``coarse``) or blocks, then head."""
        fine = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else fine}

    def no_weight_decay(self) -> set[str]:
        """Return an empty set: only biases, norms and LayerScale have no weight decay."""
        return set()


def _downsample(in_dim: int, dim: int, norm_layer: LayerFactory, dilation: int) -> nn.Sequential:
    """Create a norm and a 2×2 convolution of stride 2, or of stride 1 with the previous stage's dilation."""
    stride, padding, taps = (2, 0, 1) if dilation == 1 else (1, "same", dilation // 2)
    conv = nn.Conv2d(in_dim, dim, 2, stride=stride, dilation=taps, padding=padding)
    return nn.Sequential(norm_layer(in_dim), conv)
