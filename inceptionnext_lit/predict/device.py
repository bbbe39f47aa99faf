"""Devices as callers name them."""

from typing import TypeVar

import torch
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import first_line

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return a device; the GPU if there is one and none is named, else the CPU.

    Args:
        device: Its name.

    Raises:
        UserError: If torch does not know it.
    """
    try:
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"Unknown device {device!r}; give 'cpu', or 'cuda' for a GPU.") from error


def on_device(module: ModuleType, device: torch.device) -> ModuleType:
    """Move a module to a device.

    Args:
        module: The module.
        device: The device.

    Raises:
        UserError: If it cannot be used.
    """
    try:
        return module.to(device)
    except (AssertionError, RuntimeError) as error:  # raised by torch if there is no such device
        raise UserError(f"The device {str(device)!r} cannot be used here: {first_line(error)}.") from error
