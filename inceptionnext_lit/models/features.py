"""Feature maps of a backbone's levels (stages or blocks), as timm's ``forward_intermediates`` gives them."""

from collections.abc import Callable, Sequence

from torch import Tensor

from inceptionnext_lit.errors import UserError

Indices = int | Sequence[int] | None  # which levels: the last n, these, or all


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
    """Run levels one after the other, and keep the maps of those asked for.

    Args:
        x: What the first level takes, ``(N, C, H, W)``.
        levels: Stages or blocks.
        indices: Which to keep; see :func:`take_levels`.
        output_fmt: ``"NCHW"``.
        stop_early: Run no level after the last one asked for.
        intermediates_only: Leave out the last map.
        finish: What becomes of a map that is kept; None leaves it as it is.

    Returns:
        The kept maps in the order of the levels, or the last map that was computed and the kept ones.

    Raises:
        UserError: If ``output_fmt`` is another one, or the model has no such level.
    """
    if output_fmt != "NCHW":
        raise UserError(f"output_fmt is {output_fmt!r}, but these models give their features as NCHW.")
    wanted = take_levels(len(levels), indices)
    maps = []
    for i, level in enumerate(levels[: max(wanted) + 1] if stop_early else levels):
        x = level(x)
        if i in wanted:
            maps.append(x if finish is None else finish(x))
    return maps if intermediates_only else (x, maps)


def take_levels(count: int, indices: Indices) -> list[int]:
    """Levels to return out of ``count``, counted from the front and in the order asked for.

    Args:
        count: How many levels the model has.
        indices: The last n for an int, all for None; negative ones in a sequence count from the end.

    Raises:
        UserError: If the model has no such level.
    """
    if indices is None:
        return list(range(count))
    asked = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    if not asked or not all(-count <= i < count for i in asked):
        raise UserError(f"Features {indices} were asked for, but this model has {count}, numbered 0 to {count - 1}.")
    return [i % count for i in asked]
