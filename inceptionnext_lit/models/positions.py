"""Position embeddings that are computed instead of learned."""

import torch
from torch import Tensor


def sinusoid(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Embed positions by sines and cosines of geometric wavelengths (arXiv 1706.03762, section 3.5).

    Args:
        length: Number of positions.
        dim: Channels, even; sines and cosines alternate.
        device: Where to compute it; torch's default for None.

    Returns:
        ``(length, dim)`` in float32.
    """
    even = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angles = torch.arange(length, device=device, dtype=torch.float32).unsqueeze(1) * 10000 ** (-even / dim)
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
