"""1×1 convolutions as matrix products of the channels-last view."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.convolutions import ScaledConv2d, autocast_dtype
from inceptionnext_lit.models.kernels.operators import has_hooks


def is_product(conv: nn.Module) -> bool:
    """Return whether a layer is a 1×1 convolution over all channels, which was not replaced and has no hooks."""
    if not isinstance(conv, nn.Conv2d) or type(conv) not in (nn.Conv2d, ScaledConv2d) or has_hooks(conv):
        return False
    return conv.groups == 1 and (conv.kernel_size, conv.stride, conv.padding) == ((1, 1), (1, 1), (0, 0))


def multiply(conv: nn.Conv2d, x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Compute a 1×1 convolution as a matrix product.

    Args:
        conv: Convolution from C to D channels.
        x: Map ``(N, C, H, W)``.
        scale: Factors of the output channels (D,), if any; they multiply the weights, as in ``ScaledConv2d``.

    Returns:
        The map ``(N, D, H, W)`` with channels-last strides.
    """
    weight, bias = conv.weight.flatten(1), conv.bias
    underflows = autocast_dtype(weight) == torch.float16
    if scale is not None and not underflows:
        weight, bias = weight * scale[:, None], None if bias is None else bias * scale
    out = functional.linear(x.permute(0, 2, 3, 1), weight, bias)  # (N, C, H, W) -> (N, H, W, D)
    if scale is not None and underflows:
        out = out * scale
    return out.permute(0, 3, 1, 2)  # (N, H, W, D) -> (N, D, H, W)
