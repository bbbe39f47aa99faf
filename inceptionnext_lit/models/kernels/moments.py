"""Triton kernel that joins the moments of blocks of positions."""

import triton
import triton.language as tl
from torch import Tensor

from inceptionnext_lit.models.kernels.depthwise import (
    Sizes,
    block_length,
    convolve_with_moments,
    count_positions,
    on_device_of,
)

_BLOCK = 2048


@triton.jit(do_not_specialize=["positions", "blocks"])
def _join(means, squares, mean, variance, positions, blocks, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """Join a channel's blocks, the deviations from each block's mean with those of the means (Chan et al.)."""
    first = tl.program_id(0).to(tl.int64) * blocks
    total = tl.zeros([BLOCK], dtype=means.dtype.element_ty)
    for start in range(0, blocks, BLOCK):
        i = start + tl.arange(0, BLOCK)
        count = tl.minimum(positions - i * LENGTH, LENGTH).to(total.dtype)
        total += count * tl.load(means + first + i, mask=i < blocks, other=0.0)
    average = tl.sum(total, axis=0) / positions.to(total.dtype)
    total = tl.zeros([BLOCK], dtype=means.dtype.element_ty)
    for start in range(0, blocks, BLOCK):
        i = start + tl.arange(0, BLOCK)
        count = tl.minimum(positions - i * LENGTH, LENGTH).to(total.dtype)
        deviation = tl.load(means + first + i, mask=i < blocks, other=0.0) - average
        square = tl.load(squares + first + i, mask=i < blocks, other=0.0)
        total += tl.where(i < blocks, square + count * deviation * deviation, 0.0)
    tl.store(mean + tl.program_id(0), average)
    tl.store(variance + tl.program_id(0), tl.sum(total, axis=0) / positions.to(total.dtype))


def convolve_and_measure(x: Tensor, taps: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve, and compute each channel's mean and biased variance over all positions, as rounded in the output.

    Args:
        x: Map ``(N, C, H, W)`` with channels-last strides.
        taps: Matrix of the branches' taps and biases, ``(rows, width)``.
        sizes: Height and width of each branch's kernel.

    Returns:
        The map, and the means and variances ``(C,)`` in the dtype of the sums.
    """
    y, means, squares = convolve_with_moments(x, taps, sizes)
    channels, blocks = means.shape
    mean, variance = means.new_empty(channels), means.new_empty(channels)
    with on_device_of(x):
        _join[(channels,)](
            means, squares, mean, variance, count_positions(x), blocks,
            LENGTH=block_length(x, taps, moments=True), BLOCK=min(_BLOCK, triton.next_power_of_2(blocks)), num_warps=4,
        )  # fmt: skip
    return y, mean, variance
