"""Plot accuracy against cost, like Figure 1 of the paper (arXiv 2303.16900)."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.budget.paper import TABLES
from inceptionnext_lit.reports.budget.report import BudgetRow

ENDINGS = (".png", ".svg")

OURS = "InceptionNeXt"
# prefix of the paper's names, and color; a family's points are joined from left to right
_FAMILIES = {
    OURS: "#d62728",
    "ConvNeXt": "#1f77b4",
    "Swin": "#2ca02c",
    "DeiT": "#9467bd",
    "FocalNet": "#17becf",
    "Focal": "#7f7f7f",
    "RegNetY": "#8c564b",
    "RSB-ResNet": "#ff7f0e",
    "ResNet": "#e6ab02",
    "T2T-ViT": "#bcbd22",
    "TNT": "#e377c2",
    "PVT": "#66a61e",
    "RepLKNet": "#000000",
}
_PANELS: dict[str, Callable[[BudgetRow], float | None]] = {
    "MACs (G)": lambda row: _macs(row),
    "training throughput (images/s, the paper's A100)": lambda row: row.paper.train if row.paper else None,
    "inference throughput (images/s, the paper's A100)": lambda row: row.paper.infer if row.paper else None,
}
_LEFT_OUT = ("InceptionNeXt-A",)  # at a tenth of the others' cost, it would compress the axis


def check_plot_path(path: Path) -> None:
    """Refuse an unsuitable plot file before anything is counted.

    Args:
        path: The file.

    Raises:
        UserError: If the file does not end in .png or .svg or is a folder, its folder does not exist, or matplotlib is
            not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} ends in neither .png nor .svg; give --plot a file name that does.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib; install it with pip install 'inceptionnext-lit[plots]'.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --plot the name of a file.")
    if not path.parent.is_dir():
        raise UserError(f"No folder {path.parent}; create it, or give another file with --plot.")


def draw_tradeoff(rows: Sequence[BudgetRow], path: Path) -> None:
    """Plot top-1 accuracy against MACs and against the paper's throughput, with one color per family.

    Args:
        rows: Rows of the report; those of Table 1 at 224 pixels are drawn, except InceptionNeXt-A. MACs are our count.
        path: The file to write, .png or .svg.

    Raises:
        UserError: If the file cannot be written.
    """
    from matplotlib.figure import Figure  # an optional dependency

    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    families = by_family(rows)
    for axis, (label, position) in zip(axes, _PANELS.items(), strict=True):
        for family, members in families.items():
            _draw_family(axis, family, points_of(members, position))
        axis.set_xlabel(label)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("ImageNet-1K top-1 (%) at 224 pixels, as published")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def by_family(rows: Sequence[BudgetRow]) -> dict[str, list[BudgetRow]]:
    """Group the rows to draw by family.

    Args:
        rows: Rows of the report.
    """
    families: dict[str, list[BudgetRow]] = {family: [] for family in _FAMILIES}
    for row in rows:
        drawn = row.table == TABLES[0].name and row.size == (224, 224) and row.label not in _LEFT_OUT
        family = next((family for family in _FAMILIES if row.label.startswith(family)), None)
        if drawn and family is not None:
            families[family].append(row)
    return families


def points_of(
    rows: Sequence[BudgetRow], position: Callable[[BudgetRow], float | None]
) -> list[tuple[float, float, str]]:
    """Return the points of rows from left to right: position, top-1 accuracy, and the end of the model's name.

    Args:
        rows: Rows of one family.
        position: Function from a row to its horizontal position, or None.
    """
    return sorted(
        (x, row.paper.top1, row.label.rpartition("-")[2])
        for row in rows
        if row.paper is not None and row.paper.top1 is not None and (x := position(row)) is not None
    )


def _draw_family(axis: Any, family: str, points: list[tuple[float, float, str]]) -> None:
    color, ours = _FAMILIES[family], family == OURS
    axis.plot(
        [x for x, _, _ in points],
        [y for _, y, _ in points],
        label=f"{family} (this project)" if ours else family,
        color=color,
        marker="*" if ours else "o",
        markersize=15 if ours else 5,
        linewidth=2.4 if ours else 1.1,
        zorder=3 if ours else 2,
    )
    for x, y, name in points:
        axis.annotate(
            name,
            (x, y),
            xytext=(6, 5) if ours else (4, -10),
            textcoords="offset points",
            fontsize=10 if ours else 7,
            fontweight="bold" if ours else "normal",
            color=color,
        )


def _macs(row: BudgetRow) -> float:
    return row.cost.macs / 1e9
