"""MLPs: the part of a MetaNeXt block that mixes the channels of each position, in forms other than ``ConvMlp``.

Each maps ``(N, C, H, W)`` to the same shape and takes LayerScale as an optional second input. A block takes one as a
class or a ``functools.partial`` and calls it with the channel count and the hidden width, and with ``dilation`` in a
dilated stage if it has such an argument. A gated MLP has a first convolution of twice the hidden width, so it costs as
much as an ungated one at two thirds of its hidden width.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from timm.models.metaformer import StarReLU
from torch import Tensor, nn

from inceptionnext_lit.models.layers import ConvMlp


class SwiGluMlp(ConvMlp):
    """``fc2(SiLU(a) * b)``, where ``a`` and ``b`` are the halves of ``fc1(x)`` (SwiGLU, arXiv 2002.05202, section 2).

    Args:
        dim: Channels C.
        hidden: Channels of each half.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, 2 * hidden)
        self.act = nn.SiLU()

    def between(self, x: Tensor) -> Tensor:
        """Gate, ``(N, 2 * hidden, H, W)`` to ``(N, hidden, H, W)``."""
        gate, value = x.chunk(2, dim=1)
        gated: Tensor = self.act(gate) * value
        return gated


class ConvGluMlp(ConvMlp):
    """``fc2(GELU(DWConv(a)) * b)``, where ``a`` and ``b`` are the halves of ``fc1(x)`` (TransNeXt's convolutional GLU).

    A position's gate depends on its neighbors (arXiv 2311.17132, section "Convolutional GLU").

    Args:
        dim: Channels C.
        hidden: Channels of each half.
        dilation: Distance between the taps of the 3×3 kernel in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, hidden: int, dilation: int = 1) -> None:
        super().__init__(dim, hidden, 2 * hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden)

    def between(self, x: Tensor) -> Tensor:
        """Gate, ``(N, 2 * hidden, H, W)`` to ``(N, hidden, H, W)``."""
        gate, value = x.chunk(2, dim=1)
        gated: Tensor = self.act(self.dwconv(gate)) * value
        return gated


class GlobalResponseNorm(nn.Module):
    """``x + weight * x * n + bias``, where ``n`` compares channels (ConvNeXt V2, arXiv 2301.00808, section 4).

    ``n`` is the L2 norm of a channel over all positions of an image, divided by the mean of the channels' norms. Weight
    and bias are zero at first, so the layer begins as the identity.

    Args:
        channels: Channels C.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Strengthen the channels with the largest norms."""
        norms: Tensor = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        contrast = norms / (norms.mean(1, keepdim=True) + 1e-6)
        # autocast would return the map in float32, which fc2 would cast back
        factor = (1 + self.weight.reshape(1, -1, 1, 1) * contrast).to(x.dtype)
        return x * factor + self.bias.reshape(1, -1, 1, 1).to(x.dtype)


class GrnMlp(ConvMlp):
    """``fc2(GRN(GELU(fc1(x))))`` (ConvNeXt V2, arXiv 2301.00808, section 4).

    Args:
        dim: Channels C.
        hidden: Channels between the two convolutions.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        self.grn = GlobalResponseNorm(hidden)

    def between(self, x: Tensor) -> Tensor:
        """Activate and normalize, ``(N, hidden, H, W)`` to the same shape."""
        normalized: Tensor = self.grn(self.act(x))
        return normalized


class StarReluMlp(ConvMlp):
    """``fc2(s * ReLU(fc1(x))² + b)`` (StarReLU of the MetaFormer baselines, arXiv 2210.13452, section 2).

    The scalars s and b are learned; they start at 1 and 0, as in the authors' code.

    Args:
        dim: Channels C.
        hidden: Channels between the two convolutions.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, H, W)``.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        self.act = StarReLU()


def dilated(mlp_layer: Callable[..., nn.Module], dilation: int) -> Callable[..., nn.Module]:
    """Pass the dilation on to an MLP that also mixes positions.

    Args:
        mlp_layer: Class or partial of an MLP.
        dilation: Of the stage.
    """
    mixes_positions = "dilation" in inspect.signature(mlp_layer).parameters
    return partial(mlp_layer, dilation=dilation) if dilation > 1 and mixes_positions else mlp_layer
