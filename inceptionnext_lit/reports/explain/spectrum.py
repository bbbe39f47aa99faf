"""Frequencies of a network's feature maps by depth.

The measure is that of Park and Kim, "How do vision transformers work?" (arXiv 2202.06709), as in the authors'
``fourier_analysis.ipynb``: the log amplitude of the Fourier-transformed maps on the half-diagonal, relative to
frequency 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import first_line

Floats = NDArray[np.float64]
_SMALLEST = 1e-6  # amplitude that is added before the logarithm


@dataclass(frozen=True)
class Level:
    """Spectrum of the maps of a stage or block.

    Attributes:
        name: The module's name, or its number.
        depth: Normalized depth, from 0 for the first level to 1 for the last.
        frequencies: From 0 to π.
        amplitudes: Log amplitude at these frequencies, minus that at frequency 0.
    """

    name: str
    depth: float
    frequencies: Floats
    amplitudes: Floats

    @property
    def highest(self) -> float:
        """The amplitude at the highest frequency."""
        return float(self.amplitudes[-1])


def log_amplitudes(maps: Tensor) -> Tensor:
    """Return the mean log amplitude of maps on the half-diagonal of their Fourier transforms.

    Args:
        maps: Shape (N, C, H, W).

    Returns:
        Shape (F,), from frequency 0; averaged over images and channels, after the logarithm.
    """
    height, width = maps.shape[-2:]
    amplitudes = (torch.fft.fft2(maps.double()).abs() + _SMALLEST).log()
    rolled = amplitudes.roll((height // 2, width // 2), dims=(-2, -1)).mean(dim=(0, 1))  # frequency 0 in the center
    half: Tensor = rolled[height // 2 :, width // 2 :].diagonal()
    return half


def spectrum_of(names: Sequence[str], batches: Iterable[Sequence[Tensor]]) -> list[Level]:
    """Return the spectrum of each level, averaged over batches.

    Args:
        names: Name of each level.
        batches: The levels' maps (N, C, H, W) of each batch.

    Returns:
        The levels; those with maps of a single position have no frequencies and are left out.
    """
    sums: list[Tensor | float] = [0.0] * len(names)
    images = 0
    for batch in batches:
        images += len(batch[0])
        sums = [total + log_amplitudes(maps).cpu() * len(maps) for total, maps in zip(sums, batch, strict=True)]
    levels = []
    for number, (name, total) in enumerate(zip(names, sums, strict=True)):
        assert isinstance(total, Tensor)
        amplitudes = (total / images).numpy()
        if len(amplitudes) > 1:
            depth = number / max(len(names) - 1, 1)
            frequencies = np.linspace(0, np.pi, len(amplitudes))
            levels.append(Level(name, depth, frequencies, amplitudes - amplitudes[0]))
    return levels


def level_maps(model: nn.Module, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
    """Return a network's feature maps by depth, (N, C, H, W), without class tokens.

    Args:
        model: The network, in eval mode.
        images: Normalized images, (N, C, H, W).
        last_only: Whether only the last map is wanted.

    Raises:
        UserError: If the network does not return its maps, or not for images of this size.
    """
    if not hasattr(model, "forward_intermediates"):
        raise UserError("The model does not return its feature maps (forward_intermediates); use another one.")
    try:
        maps: list[Tensor] = model.forward_intermediates(  # type: ignore[operator]
            images, indices=1 if last_only else None, output_fmt="NCHW", intermediates_only=True
        )
    except (AssertionError, RuntimeError, ValueError) as error:
        size = "×".join(map(str, images.shape[-2:]))
        raise UserError(f"The model's feature maps of images of {size} pixels fail: {first_line(error)}.") from error
    return maps


def level_names(model: nn.Module, count: int) -> list[str]:
    """Return the names of a network's levels, or their numbers if it does not name as many.

    Args:
        model: The network.
        count: Number of levels.
    """
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info) or []
    names = [str(one.get("module", "")) for one in info]
    return names if len(names) == count and all(names) else [str(number) for number in range(count)]
