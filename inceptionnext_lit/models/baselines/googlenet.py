"""GoogLeNet and its Inception module, with and without reductions (arXiv 1409.4842).

``googlenet`` has the layers and the weights of torchvision's model. It differs from the paper: BatchNorm follows each
convolution instead of a bias, local response normalization is left out, and a 3×3 convolution stands in place of the
5×5 one (github.com/pytorch/vision/issues/906). ``googlenet_naive`` is this project's: the paper draws its module
(Figure 2a) and rejects it for its cost.

Neither has the auxiliary classifiers, which only help training; those in torchvision's file were never trained.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.staged import StagedBackbone
from inceptionnext_lit.models.convolutions import StemConv2d
from inceptionnext_lit.models.layers import init_weights
from inceptionnext_lit.models.registry import Variant

MIN_SIZE = 15  # pixels that leave one position after all poolings, which round up


class Widths(NamedTuple):
    """Output channels of the convolutions of an Inception module, in the order of the paper's Table 1."""

    square1: int
    reduce3: int
    square3: int
    reduce5: int
    square5: int
    project: int


# fmt: off
MODULES: dict[str, Widths] = {
    "3a": Widths(64, 96, 128, 16, 32, 32), "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64), "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64), "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128), "5b": Widths(384, 192, 384, 48, 128, 128),
}
# fmt: on
_STAGES = tuple(tuple(widths for name, widths in MODULES.items() if name[0] == stage) for stage in "345")


class ConvNormRelu(nn.Sequential):
    """Convolution that keeps the size of the map, BatchNorm and ReLU.

    Args:
        in_dim: Input channels.
        dim: Output channels.
        kernel_size: Side of the kernel in pixels, odd.
        conv: The convolution, if it is another one.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, conv: nn.Conv2d | None = None) -> None:
        own = nn.Conv2d(in_dim, dim, kernel_size, padding=kernel_size // 2, bias=False) if conv is None else conv
        super().__init__(OrderedDict(conv=own, bn=nn.BatchNorm2d(dim, eps=1e-3)))  # whose pair ``deploy`` folds

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalize and rectify."""
        conv, norm = self
        out: Tensor = functional.relu(norm(conv(x)))
        return out


class Inception(nn.Module):
    """Inception module with reductions: 1×1 convolutions before the large ones and after the pooling (Figure 2b).

    Args:
        in_dim: Input channels.
        widths: Output channels of its convolutions.
        large_kernel: Side of the third branch's kernel in pixels: 5 in the paper, 3 in torchvision.

    Shape:
        ``(N, in_dim, H, W)`` to ``(N, dim, H, W)``.

    Attributes:
        dim: Output channels.
    """

    def __init__(self, in_dim: int, widths: Widths, large_kernel: int = 5) -> None:
        super().__init__()
        self.dim = widths.square1 + widths.square3 + widths.square5 + widths.project
        self.branch1 = ConvNormRelu(in_dim, widths.square1, 1)
        self.branch2 = nn.Sequential(
            ConvNormRelu(in_dim, widths.reduce3, 1), ConvNormRelu(widths.reduce3, widths.square3, 3)
        )
        self.branch3 = nn.Sequential(
            ConvNormRelu(in_dim, widths.reduce5, 1), ConvNormRelu(widths.reduce5, widths.square5, large_kernel)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), ConvNormRelu(in_dim, widths.project, 1)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Run the branches and concatenate their channels."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class NaiveInception(nn.Module):
    """Inception module without reductions (Figure 2a): all input channels enter the large convolutions.

    Pooling keeps all of them too, so that each module is wider than the one before.

    Args:
        in_dim: Input channels.
        widths: Output channels; only those of the 1×1, 3×3 and 5×5 convolutions are used.
        large_kernel: Side of the third branch's kernel in pixels: 5 in the paper.

    Shape:
        ``(N, in_dim, H, W)`` to ``(N, dim, H, W)``.

    Attributes:
        dim: Output channels.
    """

    def __init__(self, in_dim: int, widths: Widths, large_kernel: int = 5) -> None:
        super().__init__()
        self.dim = widths.square1 + widths.square3 + widths.square5 + in_dim
        self.branch1 = ConvNormRelu(in_dim, widths.square1, 1)
        self.branch2 = ConvNormRelu(in_dim, widths.square3, 3)
        self.branch3 = ConvNormRelu(in_dim, widths.square5, large_kernel)
        self.branch4 = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Run the branches and concatenate their channels."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class GoogLeNetStage(nn.Module):
    """Layers with the same number of positions.

    Args:
        embed: Reduces the sides of the map.
        blocks: Convolutions or Inception modules.
    """

    def __init__(self, embed: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce the map and run the layers."""
        out: Tensor = self.blocks(self.embed(x))
        return out


class GoogLeNet(StagedBackbone):
    """Convolutions and Inception modules at strides 4, 8, 16 and 32 (Table 1), without auxiliary classifiers.

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: ``"avg"``, ``"max"`` or ``"avgmax"``; ``""`` classifies each position separately, with outputs
            ``(N, num_classes, H / 32, W / 32)``, or ``C`` channels without classes.
        stem_dims: Channels of the first two convolutions, and of the third.
        modules: Widths of the Inception modules of the last three stages.
        naive: Whether the modules have no reductions.
        large_kernel: Side of the largest kernel of a module in pixels: 5 in the paper, 3 in torchvision.
        drop_rate: Dropout rate before the Linear; 0.4 in the paper.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 15; maps round up.

    Raises:
        UserError: If ``global_pool`` is none of the above, or (in ``forward``) an image is too small or has another
            number of channels.
    """

    first_conv: ClassVar[str] = "stages.0.embed.0.conv"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        stem_dims: tuple[int, int] = (64, 192),
        modules: Sequence[Sequence[Widths]] = _STAGES,
        naive: bool = False,
        large_kernel: int = 5,
        drop_rate: float = 0.0,
    ) -> None:
        narrow, dim = stem_dims
        conv = StemConv2d(in_chans, narrow, 7, 2, min_size=MIN_SIZE, padding=3, bias=False)
        embed = nn.Sequential(ConvNormRelu(in_chans, narrow, 7, conv), _pool(3))
        stages = [GoogLeNetStage(embed, [ConvNormRelu(narrow, narrow, 1), ConvNormRelu(narrow, dim, 3)])]
        dims = [dim]
        for widths_of_stage, pooled in zip(modules, (3, 3, 2), strict=True):
            blocks: list[nn.Module] = []
            for widths in widths_of_stage:
                module = (NaiveInception if naive else Inception)(dim, widths, large_kernel)
                blocks.append(module)
                dim = module.dim
            stages.append(GoogLeNetStage(_pool(pooled), blocks))
            dims.append(dim)
        super().__init__(
            stages, dims, nn.Identity(), in_chans=in_chans, num_classes=num_classes, global_pool=global_pool,
            drop_rate=drop_rate,
        )  # fmt: skip
        self.apply(init_weights)


def _pool(kernel_size: int) -> nn.MaxPool2d:
    """Create a max pooling that halves the sides of a map, rounded up."""
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)


_PAPER = "arXiv 1409.4842"
_NAIVE: dict[str, Any] = dict(naive=True)
_HALF = (0.5, 0.5, 0.5)  # torchvision's transform_input turns ImageNet's normalization into this one
ROWS: tuple[Variant, ...] = (
    Variant("googlenet", GoogLeNet, dict(large_kernel=3), 6.62, 1.5049, 69.8, f"{_PAPER}; accuracy: torchvision",
            interpolation="bilinear", mean=_HALF, std=_HALF, tag="tv_in1k", license="bsd-3-clause",
            url="https://download.pytorch.org/models/googlenet-1378be20.pth"),
    Variant("googlenet_naive", GoogLeNet, _NAIVE, 97.53, 12.5737, source=f"{_PAPER}, Figure 2a"),
)  # fmt: skip
