"""What the mixers of a model compute in a run: the shapes, types and layouts of their inputs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from inceptionnext_lit.models.convolutions import autocast_dtype
from inceptionnext_lit.models.kernels.choice import convolutions, mixers


@dataclass(frozen=True)
class Case:
    """What a mixer computes; mixers of equal cases take the same time.

    Attributes:
        mixer: Its class.
        kernels: Its convolutions: the sides of each kernel and the number of its channels.
        sequential: Whether the last two convolutions follow each other.
        shape: Shape of its input (N, C, H, W).
        strides: Strides of its input.
        dtype: Type of its input.
        computed_in: Type that it computes in, which autocast may change.
        weights: Type of its weights.
        needs_input: Whether its input needs a gradient.
        needs_weights: Whether its weights need gradients.
        compiled: Whether the model that it belongs to is compiled.
    """

    mixer: str
    kernels: tuple[str, ...]
    sequential: bool
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
    """Run a model once in evaluation mode, and return what its mixers compute; nothing of the model is changed.

    Args:
        model: The model, on its device; it runs uncompiled.
        run: Calls it with a batch, in the run's autocast.
        compiled: Whether the model is compiled later.

    Returns:
        The cases by the names of the mixers that have a kernel and are called.
    """
    found: dict[str, Case] = {}
    trained = _trained(model)

    def note(name: str, mixer: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.setdefault(name, _case(mixer, inputs[0], *trained[name], compiled=compiled))

    hooks = [mixer.register_forward_pre_hook(partial(note, name)) for name, mixer in mixers(model).items()]
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
    """Return whether each mixer's input and weights need gradients, assuming that modules run in their order."""
    needs_input, found = False, {}
    replaced = mixers(model)
    for name, module in model.named_modules():
        own = [parameter.requires_grad for parameter in module.parameters()]
        if name in replaced:
            found[name] = (needs_input, any(own))
        needs_input |= any(p.requires_grad for p in module.parameters(recurse=False))
    return found


def _case(mixer: nn.Module, x: Tensor, needs_input: bool, needs_weights: bool, *, compiled: bool) -> Case:
    convs = convolutions(mixer)
    return Case(
        mixer=type(mixer).__name__,
        kernels=tuple(f"{'×'.join(map(str, conv.kernel_size))}:{conv.out_channels}" for conv in convs),
        sequential=bool(getattr(mixer, "sequential_bands", False)),
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
