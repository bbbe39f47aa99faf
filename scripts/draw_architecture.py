"""Draw docs/architecture.svg: the 4-stage and the isotropic InceptionNeXt and the block they share.

Usage: python scripts/draw_architecture.py [TARGET.svg|TARGET.png]
"""

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

INK, LINE = "#1f2937", "#6b7280"
STEM, NORM, HEAD = "#e5e7eb", "#fde68a", "#ddd6fe"
MIXER, MLP = "#bfdbfe", "#bbf7d0"
STAGES = ("#dbeafe", "#bfdbfe", "#93c5fd", "#60a5fa")


def box(axes: Axes, x: float, y: float, w: float, h: float, text: str, color: str, size: float = 9.5) -> None:
    """Draw a labeled box centered at (x, y)."""
    corner = (x - w / 2, y - h / 2)
    axes.add_patch(FancyBboxPatch(corner, w, h, "round,pad=0,rounding_size=0.07", fc=color, ec=LINE, lw=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=INK, linespacing=1.35)


def arrow(axes: Axes, x0: float, y0: float, x1: float, y1: float) -> None:
    """Draw an arrow from (x0, y0) to (x1, y1)."""
    axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 1.2})


def column(axes: Axes, x: float, rows: list[tuple[str, str, str]], width: float, top: float, step: float) -> None:
    """Draw boxes from top to bottom, each a (text, color, output shape), with arrows between."""
    height = 0.62
    for index, (text, color, shape) in enumerate(rows):
        y = top - index * step
        box(axes, x, y, width, height, text, color)
        axes.text(x + width / 2 + 0.12, y, shape, ha="left", va="center", fontsize=8.5, color=LINE)
        if index + 1 < len(rows):
            arrow(axes, x, y - height / 2, x, y - step + height / 2)


def draw_four_stage(axes: Axes) -> None:
    """Left: InceptionNeXt-T, four stages."""
    axes.text(2.0, 7.65, "InceptionNeXt-T: four stages", ha="center", fontsize=11, weight="bold", color=INK)
    rows = [("image", "white", "3 × 224 × 224"), ("stem: conv 4×4, stride 4\n→ BN", STEM, "96 × 56 × 56")]
    for index, (depth, dim, side) in enumerate(zip((3, 3, 9, 3), (96, 192, 384, 768), (56, 28, 14, 7), strict=True)):
        down = "" if index == 0 else "BN → conv 2×2, stride 2\n"
        rows.append((f"{down}stage {index + 1}: {depth} blocks", STAGES[index], f"{dim} × {side} × {side}"))
    rows.append(("pool → Linear → GELU\n→ LayerNorm → Linear", HEAD, "1000"))
    column(axes, 1.9, rows, 2.75, 6.95, 1.08)


def draw_isotropic(axes: Axes) -> None:
    """Middle: InceptionNeXt-S (isotropic), one stage."""
    axes.text(7.0, 7.65, "InceptionNeXt-S (isotropic): one stage", ha="center", fontsize=11, weight="bold", color=INK)
    rows = [
        ("image", "white", "3 × 224 × 224"),
        ("stem: conv 16×16, stride 16", STEM, "384 × 14 × 14"),
        ("18 blocks of one width,\nno LayerScale", STAGES[2], "384 × 14 × 14"),
        ("pool → LayerNorm → Linear", HEAD, "1000"),
    ]
    column(axes, 6.7, rows, 2.75, 6.95, 2.16)


def draw_block(axes: Axes) -> None:
    """Right: the MetaNeXt block with the inception token mixer."""
    axes.text(
        12.2, 7.65, "The block of both: MetaNeXt with inception", ha="center", fontsize=11, weight="bold", color=INK
    )
    axes.add_patch(
        FancyBboxPatch(
            (9.75, 4.0), 5.15, 2.42, "round,pad=0,rounding_size=0.1", fc="#f3f7fd", ec="#93c5fd", lw=1, ls="--"
        )
    )
    axes.text(14.8, 6.27, "token mixer (depthwise)", ha="right", va="center", fontsize=8.5, color="#2563eb")
    box(axes, 12.2, 6.95, 1.5, 0.42, "x:  C channels", "white")
    arrow(axes, 12.2, 6.74, 12.2, 6.02)
    box(axes, 12.2, 5.86, 3.0, 0.32, "split the channels", STEM)
    branches = [
        (10.5, "identity\n5/8 C", "white"),
        (11.7, "3×3\n1/8 C", MIXER),
        (12.9, "1×11\n1/8 C", MIXER),
        (14.1, "11×1\n1/8 C", MIXER),
    ]
    for x, text, color in branches:
        arrow(axes, 12.2 + (x - 12.2) * 0.6, 5.7, x, 5.42)
        box(axes, x, 5.12, 1.0, 0.56, text, color)
        arrow(axes, x, 4.84, 12.2 + (x - 12.2) * 0.6, 4.52)
    box(axes, 12.2, 4.34, 3.0, 0.32, "concatenate", STEM)
    arrow(axes, 12.2, 4.18, 12.2, 3.66)
    box(axes, 12.2, 3.45, 3.0, 0.4, "BatchNorm", NORM)
    arrow(axes, 12.2, 3.25, 12.2, 2.96)
    box(axes, 12.2, 2.6, 3.0, 0.7, "MLP (ratio 4; 3 in stage 4):\nconv 1×1 → GELU → conv 1×1", MLP)
    arrow(axes, 12.2, 2.25, 12.2, 1.96)
    box(axes, 12.2, 1.75, 3.0, 0.4, "LayerScale (4-stage only)", NORM)
    arrow(axes, 12.2, 1.55, 12.2, 1.22)
    axes.text(12.2, 1.03, "+", ha="center", va="center", fontsize=15, color=INK)
    axes.add_patch(plt.Circle((12.2, 1.05), 0.17, fc="none", ec=LINE, lw=1.2))
    arrow(axes, 12.2, 0.88, 12.2, 0.5)
    axes.plot([12.95, 15.3, 15.3], [6.95, 6.95, 1.05], color=LINE, lw=1.2)
    arrow(axes, 15.3, 1.05, 12.37, 1.05)
    axes.text(15.22, 3.0, "the only\nresidual", ha="right", va="center", fontsize=8.5, color=LINE)


def main() -> None:
    """Draw the figure to the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "target", nargs="?", type=Path, default=Path("docs/architecture.svg"), metavar="TARGET.svg|TARGET.png"
    )
    target: Path = parser.parse_args().target
    plt.rcParams.update({"svg.hashsalt": "inceptionnext", "font.family": "DejaVu Sans"})
    figure, axes = plt.subplots(figsize=(15.6, 8.0))
    axes.set(xlim=(0.2, 15.6), ylim=(-0.05, 8.0), aspect="equal")
    axes.axis("off")
    draw_four_stage(axes)
    draw_isotropic(axes)
    draw_block(axes)
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if target.suffix == ".svg" else None
    figure.savefig(target, bbox_inches="tight", pad_inches=0.1, metadata=metadata, facecolor="white", dpi=110)


if __name__ == "__main__":
    main()
