"""Optimisers by name, with the rate and the weight decay that each parameter gets."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from timm.optim import create_optimizer_v2, list_optimizers, param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer

from inceptionnext_lit.errors import UserError


@dataclass(frozen=True)
class OptimizerOptions:
    """Which optimiser trains.

    Args:
        name: Any that timm knows, such as ``adamw``, ``lamb``, ``sgd`` or ``lion``.
        layer_decay: Factor by which the rate falls from each layer to the one before it, from the head down to the
            stem; 1 trains all at the same rate. Layers are those of the model's own ``group_matcher``.
        kwargs: The optimiser's own arguments, such as ``betas``, ``eps`` or ``momentum``.

    Raises:
        UserError: If there is no such optimiser, or ``layer_decay`` is out of range.
    """

    name: str = "adamw"
    layer_decay: float = 1.0
    kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        known = list_optimizers()
        if self.name not in known:
            near = get_close_matches(self.name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"timm knows {', '.join(known)}."
            raise UserError(f"model.optimizer.name is {self.name!r}, which timm does not know; {hint}")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"model.optimizer.layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")

    def build(self, model: nn.Module, lr: float, weight_decay: float) -> Optimizer:
        """Make the optimiser of a model.

        Args:
            model: Any timm model; frozen parameters are left out.
            lr: Peak rate of the last layer.
            weight_decay: Decay of weights; biases, norms, LayerScale and what the model's own ``no_weight_decay()``
                names have none (arXiv 2303.16900, section 4.1).

        Returns:
            The optimiser; each group's ``lr`` is the rate that it really gets.

        Raises:
            UserError: If the optimiser does not take ``kwargs``, or the model's layers are not known.
        """
        groups = self._groups(model, weight_decay)
        for group in groups:
            # torch's schedulers know nothing of timm's lr_scale
            group["lr"] = lr * group.pop("lr_scale", 1.0)
        try:
            optimizer: Optimizer = create_optimizer_v2(
                groups, opt=self.name, lr=lr, weight_decay=weight_decay, **(self.kwargs or {})
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"The optimiser {self.name!r} does not take model.optimizer.kwargs: {error}.") from error
        return optimizer

    def _groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        ask: Callable[[], Collection[str]] | None = getattr(model, "no_weight_decay", None)
        spared = ask() if ask is not None else ()
        groups: list[dict[str, Any]]
        if self.layer_decay == 1:
            groups = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=spared)
            return groups
        if not hasattr(model, "group_matcher"):
            raise UserError(
                f"{type(model).__name__} does not say which layers it has (group_matcher); "
                "leave out model.optimizer.layer_decay."
            )
        groups = param_groups_layer_decay(
            model, weight_decay, no_weight_decay_list=spared, layer_decay=self.layer_decay
        )
        return groups
