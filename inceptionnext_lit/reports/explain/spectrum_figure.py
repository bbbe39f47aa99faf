"""Draw the spectra and the effective receptive fields of models side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inceptionnext_lit.console import plain_table, rendered
from inceptionnext_lit.reports.explain.figure import saved_figure, two_lines
from inceptionnext_lit.reports.explain.receptive_field import (
    SHARES,
    Floats,
    shares_by_side,
    smallest_squares,
)
from inceptionnext_lit.reports.explain.spectrum import Level

_MARKS = "osD^vPX*"
_PANEL = (2.6, 2.5)  # inches


@dataclass(frozen=True)
class Measured:
    """What was measured of a model.

    Attributes:
        title: The model and its weights.
        image_size: Height and width of its input in pixels.
        levels: The spectrum of its maps by depth.
        field: Its effective receptive field, (H, W), with a maximum of 1.
    """

    title: str
    image_size: tuple[int, int]
    levels: Sequence[Level]
    field: Floats


def draw_spectra(models: Sequence[Measured], path: Path) -> None:
    """Draw the amplitude against frequency by depth for each model, and at the highest frequency against depth for all.

    Args:
        models: The models.
        path: The file to write, .png or .svg.
    """
    import matplotlib as mpl  # an optional dependency

    with saved_figure(path, (_PANEL[0] * (len(models) + 1) + 0.8, _PANEL[1] + 0.3)) as figure:
        axes = figure.subplots(1, len(models) + 1, sharey=True, squeeze=False)[0]
        colors = mpl.colormaps["viridis"]
        for axis, model in zip(axes, models, strict=False):
            for level in model.levels:
                axis.plot(
                    level.frequencies / np.pi, level.amplitudes, color=colors(0.9 * level.depth), label="_" + level.name
                )
            axis.set_title(two_lines(model.title), fontsize=8)
            axis.set_xlabel("frequency (π)", fontsize=8)
        axes[0].set_ylabel("relative log amplitude", fontsize=8)
        for number, model in enumerate(models):
            depths, values = [one.depth for one in model.levels], [one.highest for one in model.levels]
            mark = _MARKS[number % len(_MARKS)]
            axes[-1].plot(depths, values, marker=mark, markersize=4, linewidth=1, label=model.title)
        axes[-1].set_title("at the highest frequency", fontsize=8)
        axes[-1].set_xlabel("normalized depth", fontsize=8)
        figure.legend(loc="outside lower center", ncols=4, fontsize=7, frameon=False)
        for axis in axes:
            axis.tick_params(labelsize=7)
            axis.grid(visible=True, alpha=0.3)
        scale = mpl.cm.ScalarMappable(
            mpl.colors.Normalize(0, 1), mpl.colors.ListedColormap(colors(np.linspace(0, 0.9)))
        )
        bar = figure.colorbar(scale, ax=list(axes), fraction=0.02, pad=0.01)
        bar.set_label("normalized depth of the lines on the left", fontsize=7)
        bar.ax.tick_params(labelsize=7)


def draw_fields(models: Sequence[Measured], path: Path) -> None:
    """Draw the effective receptive fields, with the squares that hold shares of them.

    Args:
        models: The models.
        path: The file to write, .png or .svg.
    """
    from matplotlib.patches import Rectangle

    with saved_figure(path, (2.1 * len(models), 2.6)) as figure:
        axes = figure.subplots(1, len(models), squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            axis.imshow(model.field, cmap="Greens", vmin=0, vmax=1)
            for square in smallest_squares(model.field):
                corner = (square.left - 0.5, square.top - 0.5)  # a pixel's center is at its number
                axis.add_patch(Rectangle(corner, square.width, square.height, fill=False, linewidth=0.8))
            axis.set_title(two_lines(model.title), fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
        percent = "/".join(f"{share:.0%}".rstrip("%") for share in SHARES)
        axes[0].set_ylabel(f"squares: {percent}% of the field", fontsize=7)


def table_of(models: Sequence[Measured]) -> str:
    """Return the amplitude of the last map and the area of each share of the receptive field as a table.

    Args:
        models: The models.
    """
    table = plain_table("Amplitude at the highest frequency, and side and area of the effective receptive field")
    table.add_column("model")
    for name in ("input", "first map", "last map", *(f"ERF {share:.0%}" for share in SHARES)):
        table.add_column(name, justify="right")
    for model in models:
        ends = [f"{model.levels[place].highest:.2f}" if model.levels else "–" for place in (0, -1)]
        areas = [f"{square.side} px, {square.area:.1%}" for square in smallest_squares(model.field)]
        table.add_row(model.title, "×".join(map(str, model.image_size)), *ends, *areas)
    return rendered(table)


def record_of(models: Sequence[Measured], images: int) -> Mapping[str, Any]:
    """Return all numbers as plain data.

    Args:
        models: The models.
        images: Number of images that they were measured on.
    """
    return {"images": images, "models": [_record(model) for model in models]}


def _record(model: Measured) -> dict[str, Any]:
    sides, held = shares_by_side(model.field)
    return {
        "model": model.title,
        "image_size": list(model.image_size),
        "spectrum": [
            {
                "level": level.name,
                "depth": level.depth,
                "frequencies": level.frequencies.tolist(),
                "relative_log_amplitudes": level.amplitudes.tolist(),
                "highest": level.highest,
            }
            for level in model.levels
        ],
        "receptive_field": {
            "areas": [
                {"share": square.share, "side": square.side, "area_ratio": square.area}
                for square in smallest_squares(model.field)
            ],
            "sides": sides.tolist(),
            "shares": held.tolist(),
        },
    }
