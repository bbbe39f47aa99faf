"""Convolutions that do something besides convolving; their parameters are those of ``torch.nn.Conv2d``."""

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError


class PatchConv2d(nn.Conv2d):
    """Convolution that cuts the image into patches that do not overlap, and refuses what it cannot cut.

    It is a model's first layer, so the check holds however timm takes the model apart.

    Args:
        in_chans: Channels of the image.
        dim: Channels C that each patch becomes.
        patch_size: Side P of a patch in pixels.
        min_size: Smallest height and width in pixels that the whole model can take.

    Shape:
        ``(N, in_chans, H, W)`` to ``(N, C, H // P, W // P)``.
    """

    def __init__(self, in_chans: int, dim: int, patch_size: int, min_size: int) -> None:
        super().__init__(in_chans, dim, patch_size, stride=patch_size)
        self.min_size = min_size

    def forward(self, x: Tensor) -> Tensor:
        """Embed the patches.

        Raises:
            UserError: If the image is smaller than the model's smallest size or has another number of channels.
        """
        _, channels, height, width = x.shape
        if channels != self.in_channels:
            raise UserError(f"The images have {channels} channels, but this model was built for {self.in_channels}.")
        if height < self.min_size or width < self.min_size:
            raise UserError(
                f"An image of {height}×{width} pixels is too small: "
                f"this model needs at least {self.min_size}×{self.min_size}."
            )
        return super().forward(x)


register_notrace_module(PatchConv2d)  # torch.fx cannot follow the check's branches


class ScaledConv2d(nn.Conv2d):
    """Convolution whose output channels can be scaled at the cost of scaling its weights, which are fewer.

    Nothing of a map's size is then read and written for LayerScale, neither forward nor backward.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Convolve, and multiply each channel by its number in ``scale`` (C,) if that is given."""
        if scale is None:
            return super().forward(x)
        if self._dtype() == torch.float16:  # in which a scale of 1e-6 times a weight is 0
            return super().forward(x) * scale.reshape(1, -1, 1, 1)
        bias = None if self.bias is None else self.bias * scale
        scaled: Tensor = self._conv_forward(x, self.weight * scale.reshape(-1, 1, 1, 1), bias)
        return scaled

    def _dtype(self) -> torch.dtype:
        device = self.weight.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.weight.dtype


register_notrace_module(ScaledConv2d)  # torch.fx cannot follow a choice by the kind of numbers
