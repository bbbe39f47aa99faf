"""Grad-CAM++ (arXiv 1710.11063)."""

import torch
from torch import Tensor


def grad_cam_plus_plus(maps: Tensor, gradient: Tensor) -> Tensor:
    """Combine a layer's maps by Grad-CAM++ (arXiv 1710.11063).

    Args:
        maps: The layer's maps, (N, C, H, W).
        gradient: The logit's gradient with respect to them.

    Returns:
        Shape (N, H, W), not negative.
    """
    squared = gradient**2
    divisor = 2 * squared + maps.sum(dim=(2, 3), keepdim=True) * gradient**3
    alpha = torch.where(divisor == 0, 0, squared / divisor)
    weights = (alpha * gradient.relu()).sum(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
    return (weights * maps).sum(dim=1).relu()
