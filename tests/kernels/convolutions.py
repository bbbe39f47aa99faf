"""What the kernels are compared with: torch's convolutions of each group of channels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inceptionnext_lit.models.kernels.operators import depthwise

Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A map and the branches' kernels."""

    shape: tuple[int, int, int, int]
    width: int
    sizes: tuple[Pair, ...]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))}-{self.width}-{'-'.join(f'{h}x{w}' for h, w in self.sizes)}"

    def tensors(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Return the map, the kernels, the biases and the gradient of the output, of exact values in any dtype."""
        torch.manual_seed(0)
        shapes = [self.shape, *((self.width, 1, *size) for size in self.sizes), *[(self.width,)] * len(self.sizes)]
        return [torch.randn(shape).bfloat16().to(dtype) for shape in (*shapes, self.shape)]


def kernel(x: Tensor, *parameters: Tensor) -> Tensor:
    count = len(parameters) // 2
    return depthwise(x, list(parameters[:count]), list(parameters[count:]))


def plain(x: Tensor, *parameters: Tensor) -> Tensor:
    count, width = len(parameters) // 2, len(parameters[0])
    groups = list(x.split([x.shape[1] - count * width, *[width] * count], dim=1))
    for i, (weight, bias) in enumerate(zip(parameters[:count], parameters[count:], strict=True), start=1):
        groups[i] = functional.conv2d(groups[i], weight, bias, padding=[s // 2 for s in weight.shape[2:]], groups=width)
    return torch.cat(groups, dim=1)


def results(form: object, tensors: list[Tensor]) -> list[Tensor]:
    """Return the output and the gradients of the map, the kernels and the biases."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors[:-1]]
    out = form(*leaves)  # type: ignore[operator]
    return [out.detach(), *torch.autograd.grad(out, leaves, tensors[-1])]


def error(found: Tensor, exact: Tensor, least: float = 1e-12) -> float:
    """Return the largest difference over the largest value, which is taken to be at least ``least``."""
    return float((found.double() - exact).abs().max() / exact.abs().max().clamp(min=least))
