"""A reimplementation of ConvNeXt with its authors' names: channels last, Linear layers, one LayerNorm per block."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class PartialConv(nn.Module):
    """Convolve the last channels, and pass the first ones through."""

    def __init__(self, dim: int, kernel: int, ratio: float) -> None:
        super().__init__()
        self.passed = dim - int(dim * ratio)
        width = dim - self.passed
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, : self.passed], self.conv(x[:, self.passed :])], 1)


class Block(nn.Module):
    def __init__(self, dim: int, kernel: int, ratio: float, scale: bool) -> None:
        super().__init__()
        full = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.dwconv = full if ratio == 1 else PartialConv(dim, kernel, ratio)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(functional.gelu(self.pwconv1(self.norm(y))))
        y = y if self.gamma is None else self.gamma * y
        return x + y.permute(0, 3, 1, 2)


class Isotropic(nn.Module):
    def __init__(self, dim: int = 384, depth: int = 3, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 16, stride=16)
        self.blocks = nn.Sequential(*[Block(dim, 7, 1, scale=False) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FourStages(nn.Module):
    def __init__(
        self,
        kernel: int,
        ratio: float = 1,
        dims: tuple[int, ...] = (96, 192, 384, 768),
        depths: tuple[int, ...] = (3, 3, 9, 3),
        classes: int = 1000,
    ) -> None:
        super().__init__()
        downs = [nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), ChannelNorm(dims[0]))]
        for before, dim in pairwise(dims):
            downs.append(nn.Sequential(ChannelNorm(before), nn.Conv2d(before, dim, 2, stride=2)))
        self.downsample_layers = nn.ModuleList(downs)
        self.stages = nn.ModuleList(
            nn.Sequential(*[Block(dim, kernel, ratio, scale=True) for _ in range(depth)])
            for dim, depth in zip(dims, depths, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        return self.head(self.norm(x.mean((2, 3))))
