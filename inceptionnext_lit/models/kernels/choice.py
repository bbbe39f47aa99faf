"""Which form of a token mixer a model uses: torch's operators, or one Triton kernel."""

import importlib
import importlib.util
import os
from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from torch import nn

from inceptionnext_lit.models.mixers import DepthwiseConv2d, InceptionDWConv2d
from inceptionnext_lit.wording import first_line

Form = Literal["torch", "triton"]

_CAPABILITY = (7, 0)  # of the oldest NVIDIA GPUs that Triton compiles for


def why_not(device: torch.device | str) -> str:
    """Return why Triton kernels cannot run on a device; empty if they can.

    Args:
        device: The device of a model.
    """
    device = torch.device(device)
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        importlib.import_module("triton")
    except Exception as error:  # a library that it needs, in any state
        return f"Triton cannot be imported: {first_line(error)}"
    if os.environ.get("TRITON_INTERPRET") == "1":  # its interpreter runs anywhere
        return ""
    if device.type != "cuda":
        return "no CUDA device"
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < _CAPABILITY:
        found, needed = (".".join(map(str, numbers)) for numbers in (capability, _CAPABILITY))
        return f"Triton needs a GPU of compute capability {needed}, and this one has {found}"
    return ""


def mixers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the mixers that have a kernel, by their names in a model.

    Args:
        model: Any model.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, InceptionDWConv2d | DepthwiseConv2d) and all(map(_has_kernel, convolutions(module)))
    }


def convolutions(mixer: nn.Module) -> list[nn.Conv2d]:
    """Return a mixer's convolutions in the order of their channels."""
    return [module for module in mixer.modules() if isinstance(module, nn.Conv2d)]


def _has_kernel(conv: nn.Conv2d) -> bool:
    return set(conv.dilation) == {1} and all(side % 2 for side in conv.kernel_size)


def use(model: nn.Module, form: Form, names: Collection[str] | None = None) -> list[str]:
    """Set the form of a model's mixers; those without a kernel keep torch's.

    Mixers use Triton only where it runs, and never while a model is traced or exported.

    Args:
        model: Any model, changed in place.
        form: Their form.
        names: Names of the mixers to set; None for all.

    Returns:
        The names of the mixers that were set.
    """
    chosen = {name: mixer for name, mixer in mixers(model).items() if names is None or name in names}
    for mixer in chosen.values():
        cast(Any, mixer).kernels = form
    return list(chosen)
