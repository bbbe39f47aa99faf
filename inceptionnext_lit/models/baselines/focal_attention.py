"""Focal attention: of windows to their surroundings and to summaries of the windows around (arXiv 2107.00641, 3.2).

The surroundings are level 0 of the paper's figure 3, the summaries are level 1. As in the authors' code, maps are
padded to whole windows and the surroundings continue at the map's other edge; there is no shift.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.layers import check_heads

_OUTSIDE = -100.0  # bias of what lies outside the map, as in the authors' code


class FocalAttention(nn.Module):
    """Multi-head attention of windows to their surroundings and to the summaries of windows (section 3.2).

    Args:
        dim: Channels C.
        num_heads: Number of heads; divides C.
        window_size: Side of a window in positions.
        expand_size: Positions on each side of a window that also belong to level 0; 0 for none.
        focal_window: Side of the region of summarized windows around a window, odd.

    Shape:
        ``(N, H, W, C)`` to ``(N, H, W, C)``.

    Raises:
        ValueError: If ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, expand_size: int, focal_window: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.window_size = window_size
        self.expand_size = expand_size
        self.focal_window = focal_window
        area = window_size**2
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.pool = nn.Linear(area, 1)  # summarizes a window
        self.window_bias = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        pooled = torch.zeros(num_heads, (window_size + focal_window - 1) ** 2)
        self.pooled_bias = nn.Parameter(nn.init.trunc_normal_(pooled, std=0.02))
        self.register_buffer("window_index", _relative_index(window_size, window_size), persistent=False)
        self.register_buffer("pooled_index", _relative_index(window_size, focal_window), persistent=False)
        self.window_index: Tensor
        self.pooled_index: Tensor
        self.near_bias = None
        if expand_size > 0:
            columns = _near_columns(window_size, expand_size)
            near = torch.zeros(1, num_heads, area, len(columns))
            self.near_bias = nn.Parameter(nn.init.trunc_normal_(near, std=0.02))
            first, second = _columns_of_region(columns, window_size, expand_size)
            self.register_buffer("first_column", torch.tensor(first), persistent=False)
            self.register_buffer("second_column", torch.tensor(second), persistent=False)
            self.first_column: Tensor
            self.second_column: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Attend; the map is padded with zeros on the right and at the bottom to whole windows."""
        count, height, width, channels = x.shape
        size = self.window_size
        rows, columns = (height + size - 1) // size, (width + size - 1) // size  # of windows
        x = functional.pad(x, (0, 0, 0, columns * size - width, 0, rows * size - height))
        query, *near = self.qkv(x).chunk(3, dim=-1)
        query = self._split(_windows(query, size, size)) * (channels // self.num_heads) ** -0.5
        near_key, near_value = (self._split(self._surroundings(part)) for part in near)
        summaries = self.pool(_windows(x, size, size).flatten(-2)).squeeze(-1)  # (N, rows, columns, C)
        far_key, far_value = (self._split(self._region(part)) for part in self.qkv(summaries).chunk(3, dim=-1)[1:])
        near_scores = query @ near_key.transpose(3, 4) + self._near_bias()
        far_scores = query @ far_key.transpose(3, 4) + self._far_bias(rows, columns)
        weights = torch.cat([near_scores, far_scores], dim=-1).softmax(dim=-1).to(near_value.dtype)
        near_count = near_key.shape[3]
        out = weights[..., :near_count] @ near_value + weights[..., near_count:] @ far_value
        # (N, rows * columns, heads, S², C / heads) -> (N, rows, columns, S, S, C) -> (N, H, W, C)
        out = out.transpose(2, 3).reshape(count, rows, columns, size, size, channels)
        out = out.transpose(2, 3).reshape(count, rows * size, columns * size, channels)
        attended: Tensor = self.proj(out[:, :height, :width])
        return attended

    def _split(self, windows: Tensor) -> Tensor:
        """Divide the channels among heads, ``(N, rows, columns, C, K, K)`` to ``(N, rows * columns, heads, K², d)``."""
        count, rows, columns, channels, side, _ = windows.shape
        heads = self.num_heads
        return windows.reshape(count, rows * columns, heads, channels // heads, side * side).transpose(3, 4)

    def _surroundings(self, x: Tensor) -> Tensor:
        """Return each window with its surroundings, where the map continues at its other edge."""
        margin = self.expand_size
        if margin > 0:
            x = torch.cat([x[:, -margin:], x, x[:, :margin]], dim=1)
            x = torch.cat([x[:, :, -margin:], x, x[:, :, :margin]], dim=2)
        return _windows(x, self.window_size + 2 * margin, self.window_size)

    def _region(self, x: Tensor) -> Tensor:
        """Return the summaries around each window, with zeros outside the map."""
        margin = self.focal_window // 2
        return _windows(functional.pad(x, (0, 0, margin, margin, margin, margin)), self.focal_window, 1)

    def _near_bias(self) -> Tensor:
        """Return the bias of each pair of a position and one of its surroundings, ``(heads, S², (S + 2E)²)``."""
        bias = self.window_bias[self.window_index].permute(2, 0, 1)  # (S², S², heads) -> (heads, S², S²)
        if self.near_bias is None:
            return bias
        absent = bias.new_full((*bias.shape[:2], 1), -torch.inf)
        bias = torch.cat([bias, self.near_bias[0], absent], dim=2)
        # attending twice to a position, with two biases, is attending once with the logarithm of their summed exponents
        return torch.logaddexp(bias[..., self.first_column], bias[..., self.second_column])

    def _far_bias(self, rows: int, columns: int) -> Tensor:
        """Return the bias of each pair of a position and a summary, ``(rows * columns, heads, S², F²)``."""
        bias = self.pooled_bias[:, self.pooled_index]
        margin = self.focal_window // 2
        outside = functional.pad(bias.new_zeros(1, rows, columns, 1), (0, 0, *[margin] * 4), value=_OUTSIDE)
        mask = _windows(outside, self.focal_window, 1).flatten(3).flatten(0, 2)  # (rows * columns, F²)
        return bias + mask[:, None, None]


def _windows(x: Tensor, size: int, stride: int) -> Tensor:
    """Cut out squares, ``(N, H, W, C)`` to ``(N, rows, columns, C, size, size)``."""
    return x.unfold(1, size, stride).unfold(2, size, stride)


def _relative_index(query_side: int, key_side: int) -> Tensor:
    """Return the number of the offset of each pair from two squares, ``(query_side², key_side²)``."""
    span = query_side + key_side - 1
    offset = torch.arange(query_side)[:, None] - torch.arange(key_side) + key_side - 1  # (queries, keys) of one axis
    index = span * offset[:, None, :, None] + offset[None, :, None, :]
    return index.flatten(2).flatten(0, 1)


def _near_columns(window_size: int, expand_size: int) -> list[tuple[int, int]]:
    """Return the surroundings of a window, as rows and columns counted from its corner, in the order of ``near_bias``.

    The authors shift the map to the four diagonals and take from each what is outside the window; positions near the
    middle of a side are in two of them.
    """
    inside = range(window_size)
    steps = (expand_size, -expand_size)
    shifted = [(row + down, column + right) for down in steps for right in steps for row in inside for column in inside]
    return [(row, column) for row, column in shifted if row not in inside or column not in inside]


def _columns_of_region(
    columns: Sequence[tuple[int, int]], window_size: int, expand_size: int
) -> tuple[list[int], list[int]]:
    """Return where the one or two biases of each position of the enlarged window stand.

    Args:
        columns: The surroundings, in the order of their biases, which follow those of the window.
        window_size: Side of the window.
        expand_size: Positions on each side of it.

    Returns:
        The first and the second index; for a position with one bias, the second is the index after the last.
    """
    inside = range(window_size)
    places = [(row, column) for row in inside for column in inside] + list(columns)
    found: dict[tuple[int, int], list[int]] = {}
    for index, place in enumerate(places):
        found.setdefault(place, []).append(index)
    region = range(-expand_size, window_size + expand_size)
    pairs = [[*found[row, column], len(places)][:2] for row in region for column in region]
    return [first for first, _ in pairs], [second for _, second in pairs]
