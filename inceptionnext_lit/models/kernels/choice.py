"""Which form of its token mixers and what stands around them a model uses: torch's operators, or Triton kernels."""

import importlib
import importlib.util
import os
from collections.abc import Collection
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from inceptionnext_lit.models.kernels.operators import is_supported
from inceptionnext_lit.models.metanext import MetaNeXtBlock
from inceptionnext_lit.models.mixers import DepthwiseMixer
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


def units(model: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a model that have two forms, by their names.

    They are this family's blocks, whose mixer, norm and MLP work together, and mixers elsewhere. The blocks of a
    sharded model cannot be copied to try them, so that their mixers alone are parts.

    Args:
        model: Any model.
    """
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        is_block = isinstance(module, MetaNeXtBlock) and not isinstance(module, FSDPModule)
        mixer = cast(MetaNeXtBlock, module).token_mixer if is_block else module
        if module not in inside and _has_kernel(mixer):
            found[name] = module
            inside.update(module.modules())
    return found


def convolutions(unit: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions that one kernel replaces in a part of a model, in the order of their channels."""
    mixers = [module for module in unit.modules() if isinstance(module, DepthwiseMixer)]
    return [conv for mixer in mixers for convs in mixer.launches() for conv in convs]


def _has_kernel(mixer: nn.Module) -> bool:
    return isinstance(mixer, DepthwiseMixer) and all(map(is_supported, convolutions(mixer)))


def use(model: nn.Module, form: Form, names: Collection[str] | None = None) -> list[str]:
    """Set the form of a model's parts; those without kernels, such as dilated mixers, keep torch's.

    Kernels run only where Triton does, and never while a model is traced or exported.

    Args:
        model: Any model, changed in place.
        form: Their form.
        names: Names of :func:`units`; None for all.

    Returns:
        The names of the units that were set.
    """
    chosen = {name: unit for name, unit in units(model).items() if names is None or name in names}
    for unit in chosen.values():
        for module in unit.modules():
            if hasattr(type(module), "kernels"):
                cast(Any, module).kernels = form
    return list(chosen)
