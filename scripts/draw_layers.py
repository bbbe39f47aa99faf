"""Draw docs/layers.svg: the package's folders as layers with their imports, read from the source.

Usage: python scripts/draw_layers.py [TARGET.svg|TARGET.png]
"""

import argparse
import ast
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import permutations, product
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

PACKAGE = Path(__file__).parents[1] / "inceptionnext_lit"
INK, LINE, FILL, BASE = "#1f2937", "#6b7280", "#dbeafe", "#e5e7eb"
WIDTH, HEIGHT, ACROSS, UP = 1.5, 0.5, 2.1, 1.15

Graph = dict[str, set[str]]


def imports(package: Path = PACKAGE) -> Graph:
    """Return each folder of the package with the folders that it imports; single modules are left out.

    Args:
        package: The package's folder.
    """
    folders = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    graph: Graph = {}
    for folder in folders:
        names: set[str] = set()
        for path in (package / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    names.add(node.module)
                elif isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)
        parts = [name.split(".") for name in names]
        graph[folder] = {part[1] for part in parts if part[0] == package.name and part[1:2]} & set(folders) - {folder}
    return graph


def modules(package: Path = PACKAGE) -> list[str]:
    """Return the single modules of the package, which every folder may import."""
    return sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("_"))


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the row of each folder, counted from the bottom: just below the lowest folder that imports it.

    Args:
        graph: What each folder imports.

    Raises:
        CycleError: If folders import each other in a cycle.
    """
    from_top: dict[str, int] = {}
    for folder in reversed(list(TopologicalSorter(graph).static_order())):
        from_top[folder] = 1 + max((from_top[other] for other in graph if folder in graph[other]), default=-1)
    return {folder: max(from_top.values()) - row for folder, row in from_top.items()}


def arrows(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports without those implied by others: a to b and b to c imply a to c."""
    below: Graph = {}
    for folder in TopologicalSorter(graph).static_order():
        below[folder] = graph[folder].union(*(below[other] for other in graph[folder]))
    return [
        (folder, other)
        for folder in sorted(graph)
        for other in sorted(graph[folder])
        if not any(other in below[third] for third in graph[folder])
    ]


def places(graph: Mapping[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Return the center of each folder's box: a row per level, in the order and spacing with the clearest arrows."""
    level = levels(graph)
    rows = [[folder for folder in sorted(graph) if level[folder] == row] for row in range(max(level.values()) + 1)]
    most = max(map(len, rows))
    gaps = [(ACROSS,) if len(row) == most else (ACROSS, 1.5 * ACROSS) for row in rows]
    layouts = product(product(*(permutations(row) for row in rows)), product(*gaps))
    return min((_centers(*layout) for layout in layouts), key=lambda centers: _tangle(centers, arrows(graph)))


def _centers(order: Sequence[Sequence[str]], gaps: Sequence[float]) -> dict[str, tuple[float, float]]:
    return {
        folder: ((place - (len(row) - 1) / 2) * gap, (level + 1) * UP)
        for level, (row, gap) in enumerate(zip(order, gaps, strict=True))
        for place, folder in enumerate(row)
    }


def _tangle(centers: Mapping[str, tuple[float, float]], pairs: Sequence[tuple[str, str]]) -> float:
    """Score how hard the arrows are to follow: by the boxes that they cross, then by their widths."""
    total = 0.0
    for source, target in pairs:
        (x0, y0), (x1, y1) = centers[source], centers[target]
        total += abs(x1 - x0)
        for x, y in centers.values():
            if y1 < y < y0:
                sides = [x0 + (x1 - x0) * (y0 - edge) / (y0 - y1) - x for edge in (y - HEIGHT, y + HEIGHT)]
                total += 100 * (min(sides) < WIDTH / 2 and max(sides) > -WIDTH / 2)
    return total


def draw(axes: Axes, graph: Mapping[str, set[str]]) -> None:
    """Draw boxes and arrows, with the shared modules at the bottom."""
    centers = places(graph)
    for source, target in arrows(graph):
        (x0, y0), (x1, y1) = centers[source], centers[target]
        note = axes.annotate(
            "", (x1, y1 + HEIGHT / 2), (x0, y0 - HEIGHT / 2), arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 1.2}
        )
        note.arrow_patch.set_gid(f"{source}-imports-{target}")
    for folder, (x, y) in centers.items():
        box(axes, x, y, WIDTH, folder, FILL)
    names = modules()
    half = (len(names) + 1) // 2
    text = f"{', '.join(names[:half])},\n{', '.join(names[half:])}: for all"
    span = max(abs(x) for x, _ in centers.values())
    box(axes, 0, 0, 2 * max(span + WIDTH / 2, 3.4), text, BASE)


def box(axes: Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    """Draw a labeled box centered at (x, y)."""
    corner = (x - width / 2, y - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, "round,pad=0,rounding_size=0.07", fc=color, ec=LINE, lw=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, color=INK, linespacing=1.35)


def main() -> None:
    """Draw the figure to the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "target", nargs="?", type=Path, default=Path("docs/layers.svg"), metavar="TARGET.svg|TARGET.png"
    )
    target: Path = parser.parse_args().target
    plt.rcParams.update({"svg.hashsalt": "inceptionnext", "font.family": "DejaVu Sans"})
    figure, axes = plt.subplots(figsize=(8.0, 6.4))
    axes.set_aspect("equal")
    axes.axis("off")
    draw(axes, imports())
    axes.autoscale_view()
    metadata = {"Date": None} if target.suffix == ".svg" else None
    figure.savefig(target, bbox_inches="tight", pad_inches=0.1, metadata=metadata, facecolor="white", dpi=110)


if __name__ == "__main__":
    main()
