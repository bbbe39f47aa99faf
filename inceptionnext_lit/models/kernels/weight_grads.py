"""Triton kernel of the weight and bias gradients of depthwise convolutions in branches, on channels-last maps.

The matrix of taps is described in ``depthwise``. A program sums one chunk of positions for four rows of a branch's
matrix and a block of its channels. With these sizes, a thread has the same positions and channels of the gradient and
of the map, so that the loop needs no barriers. There are no atomic additions, and the chunks depend on nothing but the
shapes, so that each run has the same result.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inceptionnext_lit.models.kernels.depthwise import (
    MAP,
    SUMS,
    Sizes,
    count_positions,
    kernel_arguments,
    on_device_of,
    place,
    sides,
)
from inceptionnext_lit.models.kernels.precision import sum_dtype

_PROGRAMS = 1024  # about as many as a large GPU runs at the same time
_ROWS = 4
_POSITIONS = 64
_CHANNELS = 16


@triton.jit
def _correlate(
    x, grad, partial, part, chunk, group, block, positions, height, width,
    by_height, by_width, by_area, by_strip, by_last,
    FIRST: tl.constexpr, ROW: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, SUM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Sum a chunk of positions for some rows of a branch's matrix; ``partial`` points to the chunk's matrix."""
    r = group * BLOCK_R + tl.arange(0, BLOCK_R)
    dh = r // KW - KH // 2
    dw = r % KW - KW // 2
    shift = (dh * width + dw).to(tl.int64) * CHANNELS
    is_bias = r == KH * KW
    c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    used = c < WIDTH
    total = tl.zeros([BLOCK_R, BLOCK_P, BLOCK_C], dtype=SUM)
    for start in range(part * chunk, tl.minimum((part + 1) * chunk, positions), BLOCK_P):
        q = start + tl.arange(0, BLOCK_P)
        valid = q < positions
        h, w, position = place(q, height, width, by_height, by_width, by_area, by_strip, by_last, KH, KW)
        at = position.to(tl.int64)[:, None] * CHANNELS + (FIRST + c)[None, :]
        slope = tl.load(grad + at, mask=valid[:, None] & used[None, :], other=0.0).to(SUM)
        row = h[None, :] + dh[:, None]
        column = w[None, :] + dw[:, None]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside = inside & valid[None, :] & (r < KH * KW)[:, None]
        mask = inside[:, :, None] & used[None, None, :]
        value = tl.load(x + shift[:, None, None] + at[None, :, :], mask=mask, other=0.0).to(SUM)
        total += tl.where(is_bias[:, None, None], 1.0, value) * slope[None, :, :]
    mask = (r <= KH * KW)[:, None] & used[None, :]
    tl.store(partial + (ROW + r)[:, None] * WIDTH + c[None, :], tl.sum(total, axis=1), mask=mask)


@triton.jit(do_not_specialize=["chunk", "positions", *MAP])
def _backward(
    x, grad, partials, chunk, positions, height, width, by_height, by_width, by_area, by_strip, by_last,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BRANCHES: tl.constexpr,
    KH0: tl.constexpr, KW0: tl.constexpr, KH1: tl.constexpr, KW1: tl.constexpr, KH2: tl.constexpr, KW2: tl.constexpr,
    SUM: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of the matrix of taps over each chunk of positions."""
    IDENTITY: tl.constexpr = CHANNELS - BRANCHES * WIDTH
    BLOCKS: tl.constexpr = (WIDTH + BLOCK_C - 1) // BLOCK_C
    ROW1: tl.constexpr = KH0 * KW0 + 1
    ROW2: tl.constexpr = ROW1 + KH1 * KW1 + 1
    GROUP1: tl.constexpr = (KH0 * KW0 + BLOCK_R) // BLOCK_R
    GROUP2: tl.constexpr = GROUP1 + (KH1 * KW1 + BLOCK_R) // BLOCK_R * (BRANCHES > 1)
    GROUPS: tl.constexpr = GROUP2 + (KH2 * KW2 + BLOCK_R) // BLOCK_R * (BRANCHES > 2)
    ROWS: tl.constexpr = ROW1 + (KH1 * KW1 + 1) * (BRANCHES > 1) + (KH2 * KW2 + 1) * (BRANCHES > 2)
    part = tl.program_id(0) // (GROUPS * BLOCKS)
    group = tl.program_id(0) % (GROUPS * BLOCKS) // BLOCKS
    block = tl.program_id(0) % BLOCKS
    partial = partials + part.to(tl.int64) * ROWS * WIDTH
    if group < GROUP1:
        _correlate(
            x, grad, partial, part, chunk, group, block, positions, height, width,
            by_height, by_width, by_area, by_strip, by_last,
            IDENTITY, 0, KH0, KW0, CHANNELS, WIDTH, SUM, BLOCK_R, BLOCK_P, BLOCK_C,
        )  # fmt: skip
    if BRANCHES > 1:
        if (group >= GROUP1) & (group < GROUP2):
            _correlate(
                x, grad, partial, part, chunk, group - GROUP1, block, positions, height, width,
                by_height, by_width, by_area, by_strip, by_last,
                IDENTITY + WIDTH, ROW1, KH1, KW1, CHANNELS, WIDTH, SUM, BLOCK_R, BLOCK_P, BLOCK_C,
            )  # fmt: skip
    if BRANCHES > 2:
        if group >= GROUP2:
            _correlate(
                x, grad, partial, part, chunk, group - GROUP2, block, positions, height, width,
                by_height, by_width, by_area, by_strip, by_last,
                IDENTITY + 2 * WIDTH, ROW2, KH2, KW2, CHANNELS, WIDTH, SUM, BLOCK_R, BLOCK_P, BLOCK_C,
            )  # fmt: skip


def weight_grads(x: Tensor, grad: Tensor, width: int, sizes: Sizes) -> Tensor:
    """Compute the gradient of the matrix of taps, ``(rows, width)``, in the dtype of the sums.

    Each chunk of positions is summed by itself, and then the chunks in their order: the same result in each run.

    Args:
        x: Map ``(N, C, H, W)`` with channels-last strides.
        grad: Gradient of the output, of the same shape and strides.
        width: Channels of each branch.
        sizes: Height and width of each branch's kernel.
    """
    positions = count_positions(x)
    areas = [h * w for h, w in zip(sizes[::2], sizes[1::2], strict=True)]
    parts = sum(triton.cdiv(area + 1, _ROWS) for area in areas) * triton.cdiv(width, _CHANNELS)
    chunk = triton.cdiv(triton.cdiv(positions, max(_PROGRAMS // parts, 1)), _POSITIONS) * _POSITIONS
    chunks = triton.cdiv(positions, chunk)
    partials = torch.empty((chunks, sum(areas) + len(areas), width), dtype=sum_dtype(x), device=x.device)
    with on_device_of(x):
        _backward[(chunks * parts,)](
            x, grad, partials, chunk, positions, *sides(x),
            CHANNELS=x.shape[1], WIDTH=width, SUM=SUMS[partials.dtype],
            BLOCK_R=_ROWS, BLOCK_P=_POSITIONS, BLOCK_C=_CHANNELS, num_warps=4, **kernel_arguments(sizes),
        )  # fmt: skip
    return partials.sum(0)
