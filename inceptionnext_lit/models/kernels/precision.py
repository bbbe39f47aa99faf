"""The precision of sums in kernels."""

import torch
from torch import Tensor


def sum_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which sums over a map's numbers are computed."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
