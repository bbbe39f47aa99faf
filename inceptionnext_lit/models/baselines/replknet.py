"""RepLKNet: depthwise convolutions with kernels up to 31×31 (arXiv 2203.06717).

In training, a parallel 5×5 convolution supports each large one (section 3, guideline 3). For inference, ``deploy`` adds
its kernel to the large one, and folds every BatchNorm but the last map's. The paper gives the cost of this merged form.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, cast

from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.baselines.staged import StagedBackbone
from inceptionnext_lit.models.convolutions import StemConv2d, out_of_autocast
from inceptionnext_lit.models.folding import fold_into_next, fold_into_previous, is_plain, set_weights
from inceptionnext_lit.models.layers import Gelu2d, linear_rates
from inceptionnext_lit.models.registry import Variant

PAPER = "arXiv 2203.06717"


class ConvNorm2d(nn.Sequential):
    """Convolution, BatchNorm, and ReLU if ``act``.

    Args:
        conv: The convolution.
        act: Whether to add a ReLU.
    """

    def __init__(self, conv: nn.Conv2d, act: bool = False) -> None:
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(conv.out_channels)))
        self.conv: nn.Module
        self.bn: nn.Module
        if act:
            self.add_module("nonlinear", nn.ReLU())

    @property
    def is_merged(self) -> bool:
        """Whether the norm has been folded into the convolution."""
        return isinstance(self.bn, nn.Identity)

    def deployed(self) -> nn.Module:
        """Fold the norm into the convolution."""
        if isinstance(self.conv, nn.Conv2d) and isinstance(self.bn, nn.BatchNorm2d) and is_plain(self.conv):
            fold_into_previous(self.conv, self.bn)
            self.bn = nn.Identity()
        return self


class LargeKernelConv2d(nn.Module):
    """Sum of a large and a small depthwise convolution, each with a BatchNorm, ``(N, C, H, W)`` to ``(N, C, H, W)``.

    Args:
        dim: Channels C.
        kernel_size: Side of the large kernel in pixels, odd.
        small_kernel: Side of the small kernel, odd and at most ``kernel_size``; None omits it.
    """

    def __init__(self, dim: int, kernel_size: int, small_kernel: int | None) -> None:
        super().__init__()
        self.lkb_origin = _depthwise(dim, kernel_size)
        self.small_conv = None if small_kernel is None else _depthwise(dim, small_kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with both kernels."""
        large: Tensor = self.lkb_origin(x)
        return large if self.small_conv is None else large + self.small_conv(x)

    def deployed(self) -> nn.Module:
        """Return one convolution, whose kernel is the large one with the small one added to its middle."""
        branches = [self.lkb_origin] if self.small_conv is None else [self.lkb_origin, self.small_conv]
        if not all(branch.is_merged for branch in branches):
            return self
        large, *rest = (cast(nn.Conv2d, branch.conv) for branch in branches)
        for small in rest:
            pad = (large.kernel_size[0] - small.kernel_size[0]) // 2
            kernel = large.weight + functional.pad(small.weight, [pad] * 4)
            set_weights(large, kernel, cast(Tensor, large.bias) + cast(Tensor, small.bias))
        return large


class ResidualBranch(nn.Module):
    """``x + pw2(inner(pw1(BatchNorm(x))))``: the RepLK block and the ConvFFN block (section 4.1).

    Args:
        dim: Channels C.
        hidden: Channels between the two 1×1 convolutions.
        inner: What stands between them.
        act: Whether a ReLU follows the first.
        drop_path: Probability of dropping a sample's branch in training.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, hidden: int, inner: nn.Module, act: bool, drop_path: float) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(dim)
        self.pw1 = ConvNorm2d(nn.Conv2d(dim, hidden, 1, bias=False), act=act)
        self.inner = inner
        self.pw2 = ConvNorm2d(nn.Conv2d(hidden, dim, 1, bias=False))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to the input."""
        branch: Tensor = self.drop_path(self.pw2(self.inner(self.pw1(self.norm(x)))))
        return out_of_autocast(x) + branch

    def deployed(self) -> nn.Module:
        """Fold the norm into the first convolution, and remove drop path."""
        conv = self.pw1.conv
        if isinstance(self.norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and is_plain(conv):
            fold_into_next(self.norm, conv)
            self.norm = nn.Identity()
        self.drop_path = nn.Identity()
        return self


class RepLKNetStage(nn.Module):
    """A stem or transition, and blocks of a RepLK and a ConvFFN block each.

    Args:
        embed: The stem or transition.
        dim: Channels.
        kernel_size: Side of the large kernels in pixels.
        small_kernel: Side of the small ones; None omits them.
        ffn_ratio: Hidden channels of the ConvFFN over ``dim``.
        rates: Stochastic-depth rate of each block, for both its branches.
    """

    def __init__(
        self,
        embed: nn.Module,
        dim: int,
        kernel_size: int,
        small_kernel: int | None,
        ffn_ratio: float,
        rates: Sequence[float],
    ) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential()
        for rate in rates:
            large = nn.Sequential(LargeKernelConv2d(dim, kernel_size, small_kernel), nn.ReLU())
            mixer = ResidualBranch(dim, dim, large, act=True, drop_path=rate)
            ffn = ResidualBranch(dim, int(ffn_ratio * dim), Gelu2d(), act=False, drop_path=rate)
            self.blocks.append(nn.Sequential(OrderedDict(mixer=mixer, ffn=ffn)))

    def forward(self, x: Tensor) -> Tensor:
        """Downsample and run the blocks."""
        out: Tensor = self.blocks(self.embed(x))
        return out


class RepLKNet(StagedBackbone):
    """Four stages of large depthwise convolutions, and a BatchNorm of the last map (section 4.1).

    Args:
        in_chans: Channels of the image.
        num_classes: Number of logits; 0 returns the pooled features.
        global_pool: See :class:`StagedBackbone`.
        depths: Blocks per stage; the paper's B counts a RepLK and a ConvFFN block as one.
        dims: Channels per stage.
        kernel_sizes: Side of the large kernels in pixels, per stage.
        small_kernel: Side of the parallel kernels in pixels; None omits them.
        ffn_ratio: Hidden channels of the ConvFFN over the stage's.
        drop_rate: Dropout rate before the Linear.
        drop_path_rate: Stochastic-depth rate of the last block; it rises linearly from 0 in the first.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, num_classes)``, for H and W of at least 32; each stride rounds up.

    Raises:
        UserError: If (in ``forward``) an image is too small or has another number of channels.
    """

    first_conv: ClassVar[str] = "stages.0.embed.0.conv"

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = (2, 2, 18, 2),
        dims: Sequence[int] = (128, 256, 512, 1024),
        kernel_sizes: Sequence[int] = (31, 29, 27, 13),
        small_kernel: int | None = 5,
        ffn_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        rates = iter(linear_rates(drop_path_rate, sum(depths)))
        stages = []
        for i, (depth, dim, kernel_size) in enumerate(zip(depths, dims, kernel_sizes, strict=True)):
            embed = _stem(in_chans, dim) if i == 0 else _transition(dims[i - 1], dim)
            own_rates = [next(rates) for _ in range(depth)]
            stages.append(RepLKNetStage(embed, dim, kernel_size, small_kernel, ffn_ratio, own_rates))
        super().__init__(
            stages,
            dims,
            nn.BatchNorm2d(dims[-1]),
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )


def _depthwise(dim: int, kernel_size: int, stride: int = 1, act: bool = False) -> ConvNorm2d:
    conv = nn.Conv2d(dim, dim, kernel_size, stride, kernel_size // 2, groups=dim, bias=False)
    return ConvNorm2d(conv, act=act)


def _stem(in_chans: int, dim: int) -> nn.Sequential:
    """Create the stem of stride 4, which keeps details with several layers (section 4.1)."""
    return nn.Sequential(
        ConvNorm2d(StemConv2d(in_chans, dim, 3, 2, min_size=32, padding=1, bias=False), act=True),
        _depthwise(dim, 3, act=True),
        ConvNorm2d(nn.Conv2d(dim, dim, 1, bias=False), act=True),
        _depthwise(dim, 3, stride=2, act=True),
    )


def _transition(in_dim: int, dim: int) -> nn.Sequential:
    pointwise = ConvNorm2d(nn.Conv2d(in_dim, dim, 1, bias=False), act=True)
    return nn.Sequential(pointwise, _depthwise(dim, 3, stride=2, act=True))


_31B = dict(depths=(2, 2, 18, 2), dims=(128, 256, 512, 1024), kernel_sizes=(31, 29, 27, 13), small_kernel=5)
# fmt: off
ROWS: tuple[Variant, ...] = (  # the authors' weights have no address for programs, only pages of Google Drive and Baidu
    Variant("replknet_31b", RepLKNet, _31B, 79.39, 15.3537, 83.5, PAPER, license="mit", counted_merged=True),
    Variant("replknet_31b_384", RepLKNet, _31B, 79.39, 45.1190, 84.8, PAPER,
            image_size=384, crop_pct=1.0, license="mit", counted_merged=True),
)
# fmt: on
