"""Triton kernels of depthwise convolutions in branches, on channels-last maps.

The channels are identity | branch 0 | branch 1 | branch 2, and each branch has the same number of channels. Its numbers
are one matrix with a row for each tap and, last, the bias: (taps + 1, width). The branches' matrices are stacked.

A program works on a block of positions and a block of one branch's channels, so that a block has one kernel size.
Blocks of positions follow the image such that the taps of neighbors are in the L1 cache: along rows for a horizontal
band, down columns for a vertical one, and in strips of eight rows for a square. Sums are float32; float64 for float64.

The block sizes follow from the machine code: its registers, spills and number of instructions. They have not been timed
on a GPU.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from inceptionnext_lit.models.kernels.division import divide, divider_of
from inceptionnext_lit.models.kernels.precision import sum_dtype

MAP = ("height", "width", "by_height", "by_width", "by_area", "by_strip", "by_last")
STRIP = tl.constexpr(8)  # rows; the last strip of a map may be lower
Sizes = list[int]  # height and width of each branch's kernel in pixels: [h, w, h, w, ...]


@triton.jit
def place(
    q, height, width, by_height, by_width, by_area, by_strip, by_last, KH: tl.constexpr, KW: tl.constexpr
):  # fmt: skip
    """Return the row, the column and the position of the q-th in a branch's order; see :func:`sides`."""
    if KH == 1:
        return q * 0, q - divide(q, by_width) * width, q
    area = height * width
    image = divide(q, by_area)
    rest = q - image * area
    if KW == 1:
        w = divide(rest, by_height)
        h = rest - w * height
    else:
        strip = divide(rest, by_strip)
        rest = rest - strip * STRIP * width
        rows = tl.minimum(height - strip * STRIP, STRIP)
        w = tl.where(rows == STRIP, rest // STRIP, divide(rest, by_last))
        h = strip * STRIP + rest - w * rows
    return h, w, image * area + h * width + w


@triton.jit
def _finish(
    total, y, means, squares, tile, tiles, positions, at, channel, valid, used,
    MOMENTS: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Store a block of outputs, and each channel's mean and sum of squared deviations in it."""
    rounded = total.to(y.dtype.element_ty)
    tl.store(y + at, rounded, mask=valid[:, None] & used[None, :])
    if MOMENTS:
        value = rounded.to(means.dtype.element_ty)
        count = tl.minimum(positions - tile * BLOCK_P, BLOCK_P).to(means.dtype.element_ty)
        mean = tl.sum(tl.where(valid[:, None], value, 0.0), axis=0) / count
        deviation = tl.where(valid[:, None], value - mean[None, :], 0.0)
        place = channel.to(tl.int64) * tiles + tile
        tl.store(means + place, mean, mask=used)
        tl.store(squares + place, tl.sum(deviation * deviation, axis=0), mask=used)


@triton.jit
def _convolve(
    x, taps, y, means, squares, tile, tiles, block, positions, height, width,
    by_height, by_width, by_area, by_strip, by_last,
    FIRST: tl.constexpr, ROW: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, MIRROR: tl.constexpr, MOMENTS: tl.constexpr, SUM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Convolve a block of the branch that begins with channel FIRST and with ROW of the taps."""
    q = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    valid = q < positions
    h, w, position = place(q, height, width, by_height, by_width, by_area, by_strip, by_last, KH, KW)
    c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    used = c < WIDTH
    at = position.to(tl.int64)[:, None] * CHANNELS + (FIRST + c)[None, :]
    total = tl.zeros([BLOCK_P, BLOCK_C], dtype=SUM)
    if not MIRROR:
        total += tl.load(taps + (ROW + KH * KW) * WIDTH + c, mask=used, other=0.0).to(SUM)[None, :]
    for i in range(KH):
        for j in tl.static_range(KW):
            dh = i - KH // 2
            dw = j - KW // 2
            inside = valid & (h + dh >= 0) & (h + dh < height) & (w + dw >= 0) & (w + dw < width)
            shift = (dh * width + dw).to(tl.int64) * CHANNELS
            value = tl.load(x + at + shift, mask=inside[:, None] & used[None, :], other=0.0)
            tap = i * KW + j
            if MIRROR:
                tap = KH * KW - 1 - tap
            weight = tl.load(taps + (ROW + tap) * WIDTH + c, mask=used, other=0.0)
            total += value.to(SUM) * weight.to(SUM)[None, :]
    _finish(total, y, means, squares, tile, tiles, positions, at, FIRST + c, valid, used, MOMENTS, BLOCK_P)


@triton.jit(do_not_specialize=["positions", "tiles", *MAP])
def _forward(
    x, taps, y, means, squares, positions, tiles, height, width, by_height, by_width, by_area, by_strip, by_last,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BRANCHES: tl.constexpr,
    KH0: tl.constexpr, KW0: tl.constexpr, KH1: tl.constexpr, KW1: tl.constexpr, KH2: tl.constexpr, KW2: tl.constexpr,
    MIRROR: tl.constexpr, MOMENTS: tl.constexpr, SUM: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """Convolve the branches and copy the identity; with MIRROR, with mirrored taps and without bias."""
    IDENTITY: tl.constexpr = CHANNELS - BRANCHES * WIDTH
    COPIES: tl.constexpr = (IDENTITY + BLOCK_I - 1) // BLOCK_I
    BLOCKS: tl.constexpr = (WIDTH + BLOCK_C - 1) // BLOCK_C
    # the programs of a tile run at the same time, so that the L2 cache joins parts of sectors that two of them use
    tile = tl.program_id(0) // (COPIES + BRANCHES * BLOCKS)
    block = tl.program_id(0) % (COPIES + BRANCHES * BLOCKS)
    branch = (block - COPIES) // BLOCKS
    if block < COPIES:
        q = tile * BLOCK_P + tl.arange(0, BLOCK_P)
        c = block * BLOCK_I + tl.arange(0, BLOCK_I)
        valid = q < positions
        used = c < IDENTITY
        at = q.to(tl.int64)[:, None] * CHANNELS + c[None, :]
        value = tl.load(x + at, mask=valid[:, None] & used[None, :], other=0.0)
        _finish(value, y, means, squares, tile, tiles, positions, at, c, valid, used, MOMENTS, BLOCK_P)
    elif branch == 0:
        _convolve(
            x, taps, y, means, squares, tile, tiles, block - COPIES, positions, height, width,
            by_height, by_width, by_area, by_strip, by_last,
            IDENTITY, 0, KH0, KW0,
            CHANNELS, WIDTH, MIRROR, MOMENTS, SUM, BLOCK_P, BLOCK_C,
        )  # fmt: skip
    if BRANCHES > 1:  # decided by the compiler
        if branch == 1:
            _convolve(
                x, taps, y, means, squares, tile, tiles, block - COPIES - BLOCKS, positions, height, width,
                by_height, by_width, by_area, by_strip, by_last,
                IDENTITY + WIDTH, KH0 * KW0 + 1, KH1, KW1,
                CHANNELS, WIDTH, MIRROR, MOMENTS, SUM, BLOCK_P, BLOCK_C,
            )  # fmt: skip
    if BRANCHES > 2:
        if branch == 2:
            _convolve(
                x, taps, y, means, squares, tile, tiles, block - COPIES - 2 * BLOCKS, positions, height, width,
                by_height, by_width, by_area, by_strip, by_last,
                IDENTITY + 2 * WIDTH, KH0 * KW0 + KH1 * KW1 + 2, KH2, KW2,
                CHANNELS, WIDTH, MIRROR, MOMENTS, SUM, BLOCK_P, BLOCK_C,
            )  # fmt: skip


def convolve(x: Tensor, taps: Tensor, sizes: Sizes, mirror: bool = False) -> Tensor:
    """Convolve each branch and copy the identity.

    Args:
        x: Map ``(N, C, H, W)`` with channels-last strides.
        taps: Matrix of the branches' taps and biases, ``(rows, width)``.
        sizes: Height and width of each branch's kernel.
        mirror: Whether to mirror the kernels and leave out the bias, for the gradient of the input.
    """
    y = torch.empty_like(x, memory_format=torch.channels_last)
    _launch(x, taps, y, y, y, sizes, mirror, moments=False)
    return y


def convolve_with_moments(x: Tensor, taps: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve, and return each block's means ``(C, blocks)`` and sums of squared deviations from them as well.

    They are those of the rounded outputs. A block has :func:`block_length` positions, the last one the rest.
    """
    y = torch.empty_like(x, memory_format=torch.channels_last)
    blocks = triton.cdiv(count_positions(x), block_length(x, taps, moments=True))
    means = taps.new_empty((x.shape[1], blocks), dtype=sum_dtype(x))
    squares = torch.empty_like(means)
    _launch(x, taps, y, means, squares, sizes, mirror=False, moments=True)
    return y, means, squares


def block_length(x: Tensor, taps: Tensor, *, moments: bool) -> int:
    """Return the number of positions in a block; larger ones have fewer moments, but float32 would not fit."""
    return (4096 if moments and x.element_size() == 2 else 2048) // _branch_block(taps.shape[1])


def _launch(
    x: Tensor, taps: Tensor, y: Tensor, means: Tensor, squares: Tensor, sizes: Sizes, mirror: bool, moments: bool
) -> None:
    width = taps.shape[1]
    identity = x.shape[1] - width * (len(sizes) // 2)
    block_c, block_p = _branch_block(width), block_length(x, taps, moments=moments)
    block_i = _widest(identity, 2 * block_c)
    tiles = triton.cdiv(count_positions(x), block_p)
    blocks = triton.cdiv(identity, block_i) + len(sizes) // 2 * triton.cdiv(width, block_c)
    with on_device_of(x):
        _forward[(tiles * blocks,)](
            x, taps, y, means, squares, count_positions(x), tiles, *sides(x),
            CHANNELS=x.shape[1], WIDTH=width, MIRROR=mirror, MOMENTS=moments, SUM=SUMS[sum_dtype(x)],
            BLOCK_P=block_p, BLOCK_C=block_c, BLOCK_I=block_i, num_warps=4, **kernel_arguments(sizes),
        )  # fmt: skip


def sides(x: Tensor) -> tuple[int, ...]:
    """Return the arguments of :data:`MAP`: the sides of a map, and what divides by them, by its area and by strips."""
    height, width = x.shape[2:]
    strip = min(height, STRIP.value)
    last = (height - 1) % STRIP.value + 1
    return height, width, *map(divider_of, (height, width, height * width, strip * width, last))


SUMS = {torch.float32: tl.float32, torch.float64: tl.float64}


def kernel_arguments(sizes: Sizes) -> dict[str, int]:
    """Return the kernels' arguments for up to three branches; those that do not exist have kernels of one tap."""
    names = ("KH0", "KW0", "KH1", "KW1", "KH2", "KW2")
    return {"BRANCHES": len(sizes) // 2, **dict.fromkeys(names, 1), **dict(zip(names, sizes, strict=False))}


def _branch_block(width: int) -> int:
    """Return how many of a branch's channels a program convolves."""
    return 16 if width <= 16 else _widest(width, 64)


def _widest(channels: int, most: int) -> int:
    """Return the block of 32 to ``most`` channels that covers a number of channels with the fewest unused ones."""
    candidates = [size for size in (128, 64, 32) if size <= most]
    return min(candidates, key=lambda size: triton.cdiv(channels, size) * size)


def count_positions(x: Tensor) -> int:
    """Return the number of positions in a map."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def on_device_of(x: Tensor) -> Any:
    """Make the map's device current, on which Triton runs kernels."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
