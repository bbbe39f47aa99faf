"""What the parts of a model that have kernels compute in a run: shapes, types and layouts of their inputs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inceptionnext_lit.models.convolutions import autocast_dtype
from inceptionnext_lit.models.kernels.choice import convolutions, units


@dataclass(frozen=True)
class Case:
    """What a part of a model computes; parts of equal cases take the same time.

    Attributes:
        layers: The types of its layers, with the shapes of their parameters.
        kernels: The convolutions that a kernel replaces: the sides of each and the number of its channels.
        shape: Shape of its input (N, C, H, W).
        strides: Strides of its input.
        dtype: Type of its input.
        computed_in: Type that convolutions of the input compute in, which autocast may change.
        weights: Type of the convolutions' weights.
        needs_input: Whether its input needs a gradient.
        needs_weights: Whether its parameters need gradients.
        compiled: Whether the model that it belongs to is compiled.
    """

    layers: tuple[str, ...]
    kernels: tuple[str, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    computed_in: str
    weights: str
    needs_input: bool
    needs_weights: bool
    compiled: bool

    @property
    def key(self) -> str:
        """All of it as text."""
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))} in {self.computed_in}"


def record(model: nn.Module, run: Callable[[], object], *, compiled: bool) -> dict[str, Case]:
    """Run a model once in evaluation mode, and return what its parts compute; nothing of the model is changed.

    Args:
        model: The model, on its device; it runs uncompiled.
        run: Calls it with a batch, in the run's autocast.
        compiled: Whether the model is compiled later.

    Returns:
        The cases by the names of the parts that have a kernel and are called.
    """
    found: dict[str, Case] = {}
    parts, trained = units(model), _trained(model)
    layers = {name: _layers(unit) for name, unit in parts.items()}

    def note(name: str, unit: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.setdefault(name, _case(unit, layers[name], inputs[0], *trained[name], compiled=compiled))

    hooks = [unit.register_forward_pre_hook(partial(note, name)) for name, unit in parts.items()]
    try:
        with unchanged(model), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode inside the block, and restore its modes and all random states at the end."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode  # train() of a frozen module would leave it in evaluation mode


def _trained(model: nn.Module) -> dict[str, tuple[bool, bool]]:
    """Return whether each part's input and parameters need gradients, assuming that modules run in their order."""
    needs_input, found = False, {}
    parts = units(model)
    for name, module in model.named_modules():
        if name in parts:
            found[name] = (needs_input, any(parameter.requires_grad for parameter in module.parameters()))
        needs_input |= any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    return found


def _layers(unit: nn.Module) -> tuple[str, ...]:
    """Return the types of a part's layers, with the shapes of their parameters and what else their speed depends on."""
    lines = []
    for name, module in unit.named_modules():
        if isinstance(module, DropPath | nn.Dropout | nn.Identity):  # does nothing in a trial
            continue
        shapes = ["×".join(map(str, parameter.shape)) for parameter in module.parameters(recurse=False)]
        notes = ["sequential"] if getattr(module, "sequential_bands", False) else []
        notes += ["training"] if module.training and isinstance(module, _BatchNorm) else []
        lines.append(" ".join([name, type(module).__name__, *shapes, *notes]).strip())
    return tuple(lines)


def _case(
    unit: nn.Module, layers: tuple[str, ...], x: Tensor, needs_input: bool, needs_weights: bool, *, compiled: bool
) -> Case:
    convs = convolutions(unit)
    return Case(
        layers=layers,
        kernels=tuple(f"{'×'.join(map(str, conv.kernel_size))}:{conv.out_channels}" for conv in convs),
        shape=tuple(x.shape),
        strides=tuple(x.stride()),
        dtype=_name(x.dtype),
        computed_in=_name(autocast_dtype(x)),
        weights=_name(convs[0].weight.dtype),
        needs_input=needs_input,
        needs_weights=needs_weights,
        compiled=compiled,
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
