"""The inference form of a model: the same outputs with fewer operations (arXiv 2303.16900, section 3).

In a block, the norm is between the token mixer and the MLP's first convolution ``fc1``; in a downsampling layer, before
its convolution. Both following convolutions are unpadded, so a BatchNorm's scale and shift can be folded into their
weights exactly.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inceptionnext_lit.models.convolutions import PatchConv2d, ScaledConv2d, StemConv2d
from inceptionnext_lit.models.layers import ConvMlp
from inceptionnext_lit.models.metanext import MetaNeXtBlock


def deploy(model: nn.Module) -> nn.Module:
    """Create the inference form of a model.

    BatchNorms are folded into the convolutions after them (the stem's into the one before it) and LayerScale into
    ``fc2``; drop path is removed. What cannot be folded is kept, such as a LayerNorm, or the norm before a padded
    convolution in a dilated stage.

    Args:
        model: Any model, though only this family's have something to fold; it is not changed.

    Returns:
        A new module in evaluation mode without gradients, with the same inputs and outputs.
    """
    folded = deepcopy(model).eval()
    with torch.no_grad():
        for module in folded.modules():
            if isinstance(module, MetaNeXtBlock):
                _fold_block(module)
        for parent in list(folded.modules()):
            if isinstance(parent, nn.Sequential) and len(parent) == 2:
                _fold_pair(parent)
    return folded.eval().requires_grad_(False)


def _fold_block(block: MetaNeXtBlock) -> None:
    block.drop_path = nn.Identity()
    if not isinstance(block.mlp, ConvMlp):  # any other module may do something before its first convolution
        return
    if isinstance(block.norm, nn.BatchNorm2d) and _is_plain(block.mlp.fc1):
        block.mlp.fc1 = _fold_forward(block.norm, block.mlp.fc1)
        block.norm = nn.Identity()
    fc2 = block.mlp.fc2
    if block.gamma is not None and _is_plain(fc2):
        fc2.weight.mul_(block.gamma.reshape(-1, 1, 1, 1))
        cast(Tensor, fc2.bias).mul_(block.gamma)
        block.gamma = None


def _fold_pair(pair: nn.Sequential) -> None:
    """Fold a convolution and its norm (the stem), or a norm and its convolution (a downsampling layer)."""
    first, second = pair
    if _is_plain(first) and _is_plain(second):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            fused = fuse_conv_bn_eval(first, second)
            first.weight, first.bias = fused.weight, fused.bias
            pair[1] = nn.Identity()
        elif isinstance(first, nn.BatchNorm2d) and isinstance(second, nn.Conv2d) and not _pads(second):
            pair[1] = _fold_forward(first, second)
            pair[0] = nn.Identity()


def _is_plain(layer: nn.Module) -> bool:
    # other subclasses do more than a convolution: timm's pad, activate or standardize
    return type(layer) in (nn.Conv2d, StemConv2d, PatchConv2d, ScaledConv2d, nn.BatchNorm2d)


def _pads(conv: nn.Conv2d) -> bool:
    return isinstance(conv.padding, str) or any(conv.padding)


def _fold_forward(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Fold a BatchNorm into the unpadded convolution after it, in double precision."""
    mean, variance = _double(cast(Tensor, norm.running_mean)), _double(cast(Tensor, norm.running_var))
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * _double(norm.weight)
    shift = -mean * scale
    if norm.affine:
        shift = shift + _double(norm.bias)
    weight = _double(conv.weight)
    bias = torch.einsum("oikl,i->o", weight, shift)
    if conv.bias is not None:
        bias = bias + _double(conv.bias)
    conv.weight.copy_((weight * scale.reshape(1, -1, 1, 1)).to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype).to(conv.weight.device))
    return conv


def _double(tensor: Tensor) -> Tensor:
    """Convert to float64, on the CPU because Apple's GPUs do not support it."""
    return (tensor if tensor.is_meta else tensor.cpu()).double()
