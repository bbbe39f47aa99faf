"""Parameter groups for the optimiser."""

from collections.abc import Callable, Collection
from typing import Any

from timm.optim import param_groups_weight_decay
from torch import nn


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into those that decay and those that do not (paper, section 4.1).

    Args:
        model: Any timm model; the names in its own ``no_weight_decay()`` are spared too.
        weight_decay: Decay of the weights of convolutions and linear layers.

    Returns:
        Two optimiser groups; biases, norms and LayerScale (all of one dimension) have no decay.
    """
    ask: Callable[[], Collection[str]] | None = getattr(model, "no_weight_decay", None)
    spared = ask() if ask is not None else ()
    groups: list[dict[str, Any]] = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=spared)
    return groups
