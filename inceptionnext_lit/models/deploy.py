"""The inference form of a model: the same outputs with fewer operations (arXiv 2303.16900, section 3).

A block that has more to fold than a convolution beside its norm says so itself, in a method ``deployed``.
"""

from copy import deepcopy

import torch
from torch import nn

from inceptionnext_lit.models.folding import Deployable, fold_into_next, fold_into_previous, is_plain


def deploy(model: nn.Module) -> nn.Module:
    """Create the inference form of a model.

    BatchNorms are folded into the convolutions beside them, LayerScale into ``fc2``, and parallel convolutions into
    one; drop path is removed. What cannot be folded is kept, such as a LayerNorm, or the norm before a padded
    convolution in a dilated stage.

    Args:
        model: Any model, though only those of this package have something to fold; it is not changed.

    Returns:
        A new module in evaluation mode without gradients, with the same inputs and outputs.
    """
    folded = deepcopy(model).eval()
    with torch.no_grad():
        folded = _merge(folded)
        for parent in list(folded.modules()):
            if isinstance(parent, nn.Sequential) and len(parent) == 2:
                _fold_pair(parent)
    return folded.eval().requires_grad_(False)


def _merge(module: nn.Module) -> nn.Module:
    """Replace a module's mergeable parts, innermost first, and then the module itself."""
    for name, child in list(module.named_children()):
        merged = _merge(child)
        if merged is not child:
            setattr(module, name, merged)
    return module.deployed() if isinstance(module, Deployable) else module


def _fold_pair(pair: nn.Sequential) -> None:
    """Fold a convolution and its norm (a stem), or a norm and its convolution (a downsampling layer)."""
    first, second = pair
    if is_plain(first) and is_plain(second):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            fold_into_previous(first, second)
            pair[1] = nn.Identity()
        elif isinstance(first, nn.BatchNorm2d) and isinstance(second, nn.Conv2d) and not _pads(second):
            pair[1] = fold_into_next(first, second)
            pair[0] = nn.Identity()


def _pads(conv: nn.Conv2d) -> bool:
    return isinstance(conv.padding, str) or any(conv.padding)
