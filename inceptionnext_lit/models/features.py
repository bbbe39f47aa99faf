"""Feature maps of a backbone's levels (stages or blocks), in the form of timm's ``forward_intermediates``."""

from collections.abc import Callable, Sequence

from torch import Tensor

from inceptionnext_lit.errors import UserError

Indices = int | Sequence[int] | None  # the last n levels, these levels, or all


def intermediates(
    x: Tensor,
    levels: Sequence[Callable[[Tensor], Tensor]],
    indices: Indices,
    *,
    output_fmt: str,
    stop_early: bool,
    intermediates_only: bool,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
    """Run levels in sequence, and keep the requested feature maps.

    Args:
        x: Input of the first level, ``(N, C, H, W)``.
        levels: Stages or blocks.
        indices: Levels to keep; see :func:`take_levels`.
        output_fmt: ``"NCHW"``.
        stop_early: Whether to stop after the last requested level.
        intermediates_only: Whether to leave out the last map.
        finish: Function applied to each kept map, if given.

    Returns:
        The kept maps in the order of the levels, or the last computed map and the kept ones.

    Raises:
        UserError: If ``output_fmt`` is not ``"NCHW"``, or the model has no such level.
    """
    if output_fmt != "NCHW":
        raise UserError(f"output_fmt is {output_fmt!r}, but these models return their features as NCHW.")
    wanted = take_levels(len(levels), indices)
    maps = []
    for i, level in enumerate(levels[: max(wanted) + 1] if stop_early else levels):
        x = level(x)
        if i in wanted:
            maps.append(x if finish is None else finish(x))
    return maps if intermediates_only else (x, maps)


def take_levels(count: int, indices: Indices) -> list[int]:
    """Return the indices of the requested levels, counted from the front and in the requested order.

    Args:
        count: Number of the model's levels.
        indices: The last n levels for an int, all for None; negative indices in a sequence count from the end.

    Raises:
        UserError: If the model has no such level.
    """
    if indices is None:
        return list(range(count))
    asked = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    if not asked or not all(-count <= i < count for i in asked):
        raise UserError(f"Features {indices} were requested, but this model has {count}, numbered 0 to {count - 1}.")
    return [i % count for i in asked]
