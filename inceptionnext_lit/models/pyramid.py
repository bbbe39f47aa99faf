"""Feature maps at strides 4, 8, 16 and 32 of any backbone, for decoders."""

import math
from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError

STRIDES = (4, 8, 16, 32)


class StageMaps(nn.Module):
    """The last feature map of a hierarchical backbone at each stride.

    Args:
        backbone: A timm model with ``forward_intermediates``; its later levels and its classifier are removed.
        levels: Indices of the four levels, finest first.

    Attributes:
        channels: Channels of the four maps.

    Shape:
        Images (N, C, H, W) to four maps (N, channels[i], H / stride, W / stride).
    """

    def __init__(self, backbone: nn.Module, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = list(levels)
        self.channels = tuple(_info(backbone)[level]["num_chs"] for level in self.levels)
        self.backbone = _pruned(backbone, self.levels)

    def keep(self, used: Collection[int]) -> None:
        """Do nothing: all maps are the backbone's own."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps."""
        return _intermediates(self.backbone, images, self.levels)


class SimplePyramid(nn.Module):
    """Four maps of a backbone with a single stride, as BEiT (arXiv 2106.08254) makes them for UperNet.

    Maps of four blocks at equal distances are brought to strides 4, 8, 16 and 32: by transposed convolutions that
    double the sides, with BatchNorm and GELU between two of them, or by max pooling.

    Args:
        backbone: A timm model with ``forward_intermediates`` whose blocks have the same stride.

    Attributes:
        channels: Channels of the four maps.

    Shape:
        Images (N, C, H, W) to four maps (N, C', H / stride, W / stride).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        info = _info(backbone)
        depth = len(info)
        parts = range(1, len(STRIDES) + 1)
        self.levels = [math.ceil(depth * part / len(STRIDES)) - 1 for part in parts]  # shallow ones repeat a block
        dim, patch = info[-1]["num_chs"], info[-1]["reduction"]
        self.channels = (dim,) * len(STRIDES)
        self.backbone = _pruned(backbone, self.levels)
        self.scales = nn.ModuleList(_rescale(dim, round(math.log2(patch / stride))) for stride in STRIDES)

    def keep(self, used: Collection[int]) -> None:
        """Remove the convolutions of maps that are not used; they keep the stride of the backbone.

        Args:
            used: Indices of the maps that are used.
        """
        for level in range(len(STRIDES)):
            if level not in used:
                self.scales[level] = nn.Identity()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps."""
        blocks = sorted(set(self.levels))
        maps = dict(zip(blocks, _intermediates(self.backbone, images, blocks), strict=True))
        return [scale(maps[level]) for scale, level in zip(self.scales, self.levels, strict=True)]


def feature_maps(backbone: nn.Module, name: str) -> StageMaps | SimplePyramid:
    """Take the four maps that decoders need from a classification model.

    Args:
        backbone: A timm model; it becomes part of the result, without its classifier.
        name: Its name, for messages.

    Raises:
        UserError: If it does not give its feature maps, or has too few levels.
    """
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "feature_info"):
        raise UserError(f"The model {name!r} does not give its feature maps (forward_intermediates); use another.")
    strides = [level["reduction"] for level in _info(backbone)]
    if set(STRIDES) <= set(strides):
        return StageMaps(backbone, [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES])
    if len(set(strides)) == 1:
        return SimplePyramid(backbone)
    raise UserError(
        f"The model {name!r} has feature maps at the strides {', '.join(map(str, sorted(set(strides))))}; segmentation "
        "needs 4, 8, 16 and 32, or blocks of a single stride."
    )


def _info(backbone: nn.Module) -> list[dict[str, Any]]:
    return list(cast(Any, backbone).feature_info)


def _pruned(backbone: nn.Module, levels: Sequence[int]) -> nn.Module:
    cast(Any, backbone).prune_intermediate_layers(list(levels), prune_norm=True, prune_head=True)
    return backbone


def _intermediates(backbone: nn.Module, images: Tensor, levels: Sequence[int]) -> list[Tensor]:
    maps: list[Tensor] = cast(Any, backbone).forward_intermediates(
        images, indices=list(levels), output_fmt="NCHW", intermediates_only=True
    )
    return maps


def _rescale(dim: int, doublings: int) -> nn.Module:
    """Create a module that multiplies the sides of a map by 2 to the power of ``doublings``."""
    if doublings < 0:
        return nn.MaxPool2d(2**-doublings, ceil_mode=True)
    layers: list[nn.Module] = []
    for step in range(doublings):
        layers += [nn.BatchNorm2d(dim), nn.GELU()] if step else []
        layers.append(nn.ConvTranspose2d(dim, dim, 2, 2))
    return nn.Sequential(*layers)


def channels_first_norm(dim: int) -> nn.Module:
    """Create a LayerNorm over the channels of a map (N, C, H, W).

    Args:
        dim: Channels C.
    """
    return _ChannelNorm(dim)


class _ChannelNorm(nn.LayerNorm):
    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        normalized = super().forward(x.permute(0, 2, 3, 1))  # (N, C, H, W) -> (N, H, W, C)
        return torch.permute(normalized, (0, 3, 1, 2))
