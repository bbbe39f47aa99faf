"""Optimizers by name, with the learning rate and weight decay of each parameter."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.class_paths import import_subclass
from inceptionnext_lit.wording import did_you_mean

_FUSED = (Adam, AdamW, SGD)  # fused in every supported release of torch
_FUSED_DEVICES = ("cpu", "cuda")
STEP_KWARGS = ("fused", "foreach", "differentiable")  # arguments that choose how a step is computed


@dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer and its options.

    Args:
        name: Any optimizer of timm, such as ``adamw``, ``lamb``, ``sgd`` or ``lion``, or the path of a class, such as
            ``torch.optim.RAdam``, which is imported when training starts.
        layer_decay: Factor by which the learning rate falls from each layer to the one before it, from the head down to
            the stem; 1 trains all layers at the same rate. Layers are those of the model's ``group_matcher``, or of
            ``decay_exponents`` for segmentation models.
        head_lr_factor: Factor of the learning rate of the last linear layer, which is often trained from scratch.
        kwargs: Further arguments of the optimizer, such as ``betas``, ``eps`` or ``momentum``. Adam, AdamW and SGD are
            ``fused`` unless ``fused`` or ``foreach`` is given here.

    Raises:
        UserError: If the optimizer is unknown, or a factor is out of range.
    """

    name: str = "adamw"
    layer_decay: float = 1.0
    head_lr_factor: float = 1.0
    kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        known = list_optimizers()
        if self.name not in known and "." not in self.name:
            question = did_you_mean(self.name, known, cutoff=0.0)
            raise UserError(
                f"model.optimizer.name is {self.name!r}, which timm does not know; {question} "
                "A class of another package is given by its path, such as torch.optim.RAdam."
            )
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"model.optimizer.layer_decay is {self.layer_decay}; it must be above 0 and at most 1.")
        if not 0 < self.head_lr_factor < math.inf:
            raise UserError(f"model.optimizer.head_lr_factor is {self.head_lr_factor}; it must be above 0.")

    def build(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float,
        head: Collection[str] = (),
        beside: nn.Module | None = None,
    ) -> Optimizer:
        """Create the optimizer of a model.

        Args:
            model: Any timm model; frozen parameters are left out.
            lr: Peak learning rate of the last layer.
            weight_decay: Weight decay; biases, norms, LayerScale and the parameters in the model's
                ``no_weight_decay()`` have none (arXiv 2303.16900, section 4.1).
            head: Names of the last linear layer's parameters, to put them in separate groups.
            beside: A module that is trained at the peak learning rate, in groups after the model's.

        Returns:
            The optimizer; each group's ``lr`` is its actual learning rate. If ``head`` is given, its groups have
            ``is_head``.

        Raises:
            UserError: If the optimizer does not take ``kwargs``, or the model does not define its layers.
        """
        groups = self._groups(model, weight_decay)
        if head:
            groups = _split_head(groups, {id(p) for name, p in model.named_parameters() if name in head})
        if beside is not None:
            groups += replace(self, layer_decay=1.0)._groups(beside, weight_decay)
        for group in groups:
            # torch's schedulers do not support timm's lr_scale
            group["lr"] = lr * group.pop("lr_scale", 1.0) * (self.head_lr_factor if group.get("is_head") else 1.0)
        kwargs = self.kwargs or {}
        if self._can_fuse([parameter for group in groups for parameter in group["params"]]):
            kwargs = kwargs | {"fused": True}
        try:
            optimizer: Optimizer
            if "." in self.name:
                optimizer = self._import()(groups, lr=lr, **self._decay_argument(weight_decay), **kwargs)
            else:
                optimizer = create_optimizer_v2(groups, opt=self.name, lr=lr, weight_decay=weight_decay, **kwargs)
        except (TypeError, ValueError, AssertionError) as error:
            what = "take model.optimizer.kwargs" if self.kwargs else "work here"
            raise UserError(f"The optimizer {self.name!r} does not {what}: {str(error).rstrip('.')}.") from error
        optimizer.register_load_state_dict_pre_hook(_keep_step_arguments)
        optimizer.register_load_state_dict_post_hook(_match_state_strides)
        return optimizer

    def try_step(self, parameter: nn.Parameter, state: dict[str, Any]) -> str | None:
        """Step a copy of a parameter from the state of an optimizer with other arguments.

        Args:
            parameter: The parameter; it is not changed.
            state: Its part of the optimizer's state; it is not changed.

        Returns:
            What went wrong, or None.
        """
        alone = nn.Module()
        alone.weight = nn.Parameter(parameter.detach().cpu().clone())
        trial = replace(self, layer_decay=1.0).build(alone, lr=1.0, weight_decay=0.0)
        trial.state[alone.weight].update(deepcopy(state))
        alone.weight.grad = torch.zeros_like(alone.weight)
        try:
            trial.step()
        except Exception as error:  # each optimizer raises its own errors
            return f"{type(error).__name__}: {error}"
        return None

    def _import(self) -> Callable[..., Optimizer]:
        return import_subclass(self.name, Optimizer, "model.optimizer.name")

    def _decay_argument(self, weight_decay: float) -> dict[str, float]:
        if "weight_decay" in inspect.signature(self._import()).parameters:
            return {"weight_decay": weight_decay}
        if weight_decay:
            raise UserError(f"The optimizer {self.name!r} has no weight decay; give --model.weight_decay 0.")
        return {}

    def _can_fuse(self, parameters: list[Tensor]) -> bool:
        if any(key in (self.kwargs or {}) for key in STEP_KWARGS):
            return False
        known = "." not in self.name
        kind = get_optimizer_class(self.name, bind_defaults=False) if known else self._import()
        if kind not in _FUSED:
            return False
        if any(isinstance(parameter, DTensor) for parameter in parameters):  # torch has no fused SGD for DTensor
            return False
        return all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in parameters)

    def _groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        ask: Callable[[], Collection[str]] | None = getattr(model, "no_weight_decay", None)
        spared = ask() if ask is not None else ()
        groups: list[dict[str, Any]]
        # with a weight decay of 0, timm would make other groups, and a resumed run could not change to or from it
        decay = weight_decay or 1.0
        exponents: Callable[[], Mapping[str, int]] | None = getattr(model, "decay_exponents", None)
        if self.layer_decay == 1:
            groups = param_groups_weight_decay(model, decay, no_weight_decay_list=spared)
        elif exponents is not None:
            groups = _groups_by_exponent(model, decay, spared, self.layer_decay, exponents())
        elif hasattr(model, "group_matcher"):
            groups = param_groups_layer_decay(model, decay, no_weight_decay_list=spared, layer_decay=self.layer_decay)
        else:
            raise UserError(
                f"{type(model).__name__} does not say which layers it has (group_matcher); "
                "leave out model.optimizer.layer_decay."
            )
        return [group | {"weight_decay": weight_decay if group["weight_decay"] else 0.0} for group in groups]


def _groups_by_exponent(
    model: nn.Module,
    weight_decay: float,
    spared: Collection[str],
    layer_decay: float,
    exponents: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Group parameters as timm does, with the model's own powers of the layer decay."""
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        power, decays = exponents[name], parameter.ndim > 1 and name not in spared
        options = {"weight_decay": weight_decay if decays else 0.0, "lr_scale": layer_decay**power}
        groups.setdefault((power, decays), {"params": [], **options})["params"].append(parameter)
    return list(groups.values())


def default_lr(images_per_step: int, width: int) -> float:
    """Return a good peak learning rate for fine-tuning with AdamW: 0.24 / width · √(images / 32).

    The constant is measured by ``examples/finetune_ablation.py --rates`` at a width of 48, where 3e-3 is best without
    and 1e-2 with a layer decay of 0.75. For optimizers that normalize their steps, the best learning rate grows with
    the square root of the images per step (arXiv 2205.10287) and falls with the width (arXiv 2203.03466).

    Args:
        images_per_step: Images per optimizer step over all devices.
        width: Input features of the classifier.
    """
    return float(f"{0.24 / width * math.sqrt(images_per_step / 32):.2g}")


def unscale_before_step(optimizer: Optimizer) -> None:
    """Unscale float16 gradients before the optimizer step, so that they can be clipped.

    A fused step unscales them itself, and Lightning then refuses to clip, even in bfloat16, which has no scale.

    Args:
        optimizer: Any optimizer.
    """
    cast(Any, optimizer)._step_supports_amp_scaling = False  # torch's flag of steps that unscale


def _keep_step_arguments(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Compute steps as the checkpoint's run did, bit by bit, if this run can and its arguments allow it.

    Otherwise the checkpoint's choice would override this run's device, precision and arguments.
    """
    own = optimizer.param_groups[0]
    if "fused" not in own:
        return state
    ways = {"fused": own["fused"], "foreach": own["foreach"]}
    if own["fused"] and not all(group.get("fused") for group in state["param_groups"]):
        ways["fused"] = None
        unscale_before_step(optimizer)
    return state | {"param_groups": [group | ways for group in state["param_groups"]]}


def _match_state_strides(optimizer: Optimizer) -> None:
    """Give a restored state the strides of its parameters, since fused steps traverse the memory of both together."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _split_head(groups: list[dict[str, Any]], head: set[int]) -> list[dict[str, Any]]:
    """Put the head's parameters into separate groups, marked by ``is_head``."""
    divided = []
    for group in groups:
        for is_head in (False, True):
            parameters = [p for p in group["params"] if (id(p) in head) == is_head]
            if parameters:
                divided.append(group | {"params": parameters, "is_head": is_head})
    return divided
