"""Metrics of an evaluation, one line for each split and set of weights."""

from collections.abc import Mapping

from inceptionnext_lit.wording import printable

_AVERAGED = "_ema"


def evaluation_lines(metrics: Mapping[str, float], *, has_average: bool | None, images: int | None = None) -> list[str]:
    """Format metrics as a table with four digits.

    Args:
        metrics: Values by name: ``val/acc1``, ``val_ema/acc1``; those of single labels as ``val/f1/cat``.
        has_average: Whether the model has averaged weights, which ``predict`` then uses; None if unknown.
        images: Number of images, if known.

    Returns:
        The lines: a heading, one line per split, then one per label if there are such metrics.
    """
    named = {tuple(name.split("/", 2)): value for name, value in metrics.items() if "/" in name}
    stages = sorted({name[0] for name in named})
    if not stages:
        return []
    plain = sorted(dict.fromkeys(name[1] for name in named if len(name) == 2), key="loss".__eq__)  # the loss comes last
    title, number = ([], []) if images is None else (["images"], [f"{images:,}"])
    rows = [["", *title, *plain]]
    rows += [[stage, *number, *(_digits(named.get((stage, key))) for key in plain)] for stage in stages]
    of_labels = list(dict.fromkeys(name[1:] for name in named if len(name) == 3))
    per_label = [
        [f"{key}/{printable(label)}", *(_digits(named.get((stage, key, label))) for stage in stages)]
        for key, label in of_labels
    ]
    lines = _table(rows) + (["", *_table([["", *stages], *per_label])] if per_label else [])
    if has_average is not None:
        averaged = f"the averaged weights ({stages[0].removesuffix(_AVERAGED)}{_AVERAGED})"
        lines.append(f"predict uses {averaged if has_average else 'these weights'}.")
    return lines


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines
