"""The bars of a transfer table."""

import math
from collections.abc import Sequence
from pathlib import Path

from inceptionnext_lit.reports.explain.figure import saved_figure
from inceptionnext_lit.reports.transfer.cells import Cell
from inceptionnext_lit.reports.transfer.scores import METRICS

_WIDTH = 0.8  # of a data set's bars


def draw_bars(cells: Sequence[Cell], path: Path) -> None:
    """Draw a panel per protocol, with a group of bars per data set and standard deviations as error bars.

    Args:
        cells: The cells; those without results have no bar.
        path: The file to write, .png or .svg.
    """
    protocols = list(dict.fromkeys(cell.protocol for cell in cells))
    models = list(dict.fromkeys(cell.model for cell in cells))
    data = {cell.data: METRICS[cell.metric] for cell in cells}
    inches = (max(5.0, 1.4 + 0.3 * len(data) * (len(models) + 1)), 0.6 + 2.4 * len(protocols) + 0.2 * len(models))
    width = _WIDTH / len(models)
    with saved_figure(path, inches) as figure:
        axes = figure.subplots(len(protocols), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axis, protocol in zip(axes, protocols, strict=True):
            for number, model in enumerate(models):
                own = {cell.data: cell for cell in cells if (cell.protocol, cell.model) == (protocol, model)}
                shown = [
                    (place, own[name].mean, own[name].std)
                    for place, name in enumerate(data)
                    if own[name].mean is not None
                ]
                axis.bar(
                    [place + (number - (len(models) - 1) / 2) * width for place, _, _ in shown],
                    [100 * (mean or 0.0) for _, mean, _ in shown],
                    width,
                    yerr=[math.nan if std is None else 100 * std for _, _, std in shown],
                    label=model if axis is axes[0] else None,
                    color=f"C{number % 10}",
                    error_kw={"elinewidth": 1, "capsize": 2},
                )
            axis.set_title(protocol, fontsize=9)
            axis.set_ylabel("percent", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.grid(visible=True, axis="y", alpha=0.3)
            axis.set_axisbelow(True)
        axes[-1].set_xticks(range(len(data)), [f"{name}\n{metric}" for name, metric in data.items()])
        figure.legend(loc="outside lower center", ncols=1, fontsize=7, frameon=False)
