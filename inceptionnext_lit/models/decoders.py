"""Segmentation decoders over four feature maps: UperNet and Semantic FPN, as arXiv 2303.16900 uses them on ADE20K.

The maps have strides 4, 8, 16 and 32; map i is ``(N, channels[i], H_i, W_i)``. Sizes do not have to be divisible: each
upsampling takes the exact size of the finer map.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.layers import init_weights

LEVELS = 4
POOL_BINS = (1, 2, 3, 6)  # side of each pooled grid (arXiv 1612.01105, section 3.2)


class UperNet(nn.Module):
    """Unified Perceptual Parsing for one task (arXiv 1807.10221), as Swin and ConvNeXt use it.

    Pyramid pooling on the last map, a feature pyramid down to the first, and a fusion of all four levels. An auxiliary
    head on the third map helps training; it adds parameters, but no inference time.

    Args:
        channels: Channels of the four maps, finest first.
        num_classes: Number K of logits per position.
        width: Channels of each pyramid level.
        aux_width: Channels inside the auxiliary head.
        drop_rate: Probability of dropping a whole channel before each classifier in training.

    Shape:
        Four maps to logits ``(N, K, H_0, W_0)``; in training also to auxiliary logits ``(N, K, H_2, W_2)``.

    Raises:
        UserError: If there are not four ``channels``, or (in ``forward``) the maps do not match them.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int = 150,
        width: int = 512,
        aux_width: int = 256,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = _four_levels(channels)
        *finer, last = self.channels
        self.pyramid_pool = PyramidPool(last, width)
        self.laterals = nn.ModuleList(_conv_norm_act(dim, width, 1) for dim in finer)
        self.smooth = nn.ModuleList(_conv_norm_act(width, width, 3) for _ in finer)
        self.fuse = _conv_norm_act(LEVELS * width, width, 3)
        self.classifier = _classifier(width, num_classes, drop_rate)
        self.aux_head = nn.Sequential(
            _conv_norm_act(finer[-1], aux_width, 3), _classifier(aux_width, num_classes, drop_rate)
        )
        self.apply(init_weights)

    def forward(self, maps: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Classify each position of the first map; in training, return auxiliary logits too."""
        _check_maps(maps, self.channels)
        laterals = [conv(x) for conv, x in zip(self.laterals, maps[:-1], strict=True)]
        *finer, last = _top_down([*laterals, self.pyramid_pool(maps[-1])], "bilinear")
        levels = [*(conv(x) for conv, x in zip(self.smooth, finer, strict=True)), last]
        fused = self.fuse(torch.cat([_resize(x, maps[0]) for x in levels], dim=1))
        logits: Tensor = self.classifier(fused)
        return (logits, self.aux_head(maps[-2])) if self.training else logits


class SemanticFPN(nn.Module):
    """Panoptic FPN's semantic branch (arXiv 1901.02446, section 3.1), as PVT and PoolFormer use it.

    Args:
        channels: Channels of the four maps, finest first.
        num_classes: Number K of logits per position.
        width: Channels of each pyramid level.
        head_width: Channels of the head, which brings all levels to the finest size and adds them.
        drop_rate: Probability of dropping a whole channel before the classifier in training.

    Shape:
        Four maps to logits ``(N, K, H_0, W_0)``.

    Raises:
        UserError: If there are not four ``channels``, or (in ``forward``) the maps do not match them.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int = 150,
        width: int = 256,
        head_width: int = 128,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = _four_levels(channels)
        self.laterals = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in self.channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.channels)
        self.finest = _conv_norm_act(width, head_width, 3)
        self.climbs = nn.ModuleList(_climb(width, head_width, steps) for steps in range(1, LEVELS))
        self.classifier = _classifier(head_width, num_classes, drop_rate)
        self.apply(init_weights)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify each position of the first map."""
        _check_maps(maps, self.channels)
        laterals = [conv(x) for conv, x in zip(self.laterals, maps, strict=True)]
        finest, *coarser = (conv(x) for conv, x in zip(self.smooth, _top_down(laterals, "nearest"), strict=True))
        total = self.finest(finest)
        for level, (convs, x) in enumerate(zip(self.climbs, coarser, strict=True), start=1):
            for conv, like in zip(cast(nn.ModuleList, convs), reversed(maps[:level]), strict=True):
                x = _resize(conv(x), like)
            total = total + x
        logits: Tensor = self.classifier(total)
        return logits


class PyramidPool(nn.Module):
    """Pyramid pooling (arXiv 1612.01105, section 3.2): a map and its averages over several grids, concatenated.

    Args:
        dim: Channels C of the map.
        width: Channels of each pooled branch and of the output.

    Shape:
        ``(N, C, H, W)`` to ``(N, width, H, W)``.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), _conv_norm_act(dim, width, 1)) for bins in POOL_BINS
        )
        self.fuse = _conv_norm_act(dim + len(POOL_BINS) * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Pool, resize back and fuse."""
        pooled = [_resize(branch(x), x) for branch in self.branches]
        out: Tensor = self.fuse(torch.cat([x, *pooled], dim=1))
        return out


def _conv_norm_act(in_dim: int, dim: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_dim, dim, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(dim), nn.ReLU())


def _classifier(dim: int, num_classes: int, drop_rate: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(drop_rate), nn.Conv2d(dim, num_classes, 1))


def _climb(in_dim: int, dim: int, steps: int) -> nn.ModuleList:
    """Create one convolution for each doubling of the size."""
    return nn.ModuleList(_conv_norm_act(in_dim if step == 0 else dim, dim, 3) for step in range(steps))


def _resize(x: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode=mode)


def _top_down(maps: Sequence[Tensor], mode: str) -> list[Tensor]:
    """Add the sum of all coarser maps to each map, from the coarsest on."""
    sums = [maps[-1]]
    for x in reversed(maps[:-1]):
        sums.append(x + _resize(sums[-1], x, mode))
    return sums[::-1]


def _four_levels(channels: Sequence[int]) -> tuple[int, ...]:
    if len(channels) != LEVELS:
        raise UserError(f"A segmentation decoder takes {LEVELS} maps, but channels has {len(channels)} values.")
    return tuple(channels)


def _check_maps(maps: Sequence[Tensor], channels: tuple[int, ...]) -> None:
    found = tuple(int(x.shape[1]) for x in maps)  # sizes are tensors while tracing
    if found != channels:
        names = (", ".join(map(str, dims)) for dims in (found, channels))
        raise UserError("The maps have {} channels, but this decoder was built for {}.".format(*names))
