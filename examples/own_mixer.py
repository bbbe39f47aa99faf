"""A custom token mixer, a model that uses it, and a command line that knows the model.

Usage:
    python examples/own_mixer.py budget shift_iso_nano inceptionnext_iso_nano
    python examples/own_mixer.py fit --config quickstart --model.name shift_iso_nano
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from inceptionnext_lit.cli import main
from inceptionnext_lit.models.isotropic import IsotropicMetaNeXt

default_cfgs = generate_default_cfgs(
    {
        "shift_iso_nano": {
            "input_size": (3, 28, 28),
            "num_classes": 10,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "first_conv": IsotropicMetaNeXt.first_conv,
            "classifier": IsotropicMetaNeXt.classifier_name,
        }
    }
)


class Shift(nn.Module):
    """Shifts a share of the channels by one pixel in each of four directions, without weights or multiply-adds.

    Args:
        dim: Channels C, which a block passes to its mixer.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.moved = dim // 8

    def forward(self, x: Tensor) -> Tensor:
        """Mix the positions, ``(N, C, H, W)`` to the same shape."""
        parts = list(x.split([self.moved] * 4 + [x.shape[1] - 4 * self.moved], dim=1))
        for index, (shift, dim) in enumerate(((1, 2), (-1, 2), (1, 3), (-1, 3))):
            parts[index] = parts[index].roll(shift, dim)
        return torch.cat(parts, dim=1)


@register_model
def shift_iso_nano(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build the isotropic model of the quickstart's size with shifts instead of Inception's convolutions."""
    size = {"patch_size": 4, "dim": 96, "depth": 6, "token_mixer": Shift}
    return build_model_with_cfg(IsotropicMetaNeXt, "shift_iso_nano", pretrained, **size, **kwargs)


if __name__ == "__main__":
    raise SystemExit(main())
