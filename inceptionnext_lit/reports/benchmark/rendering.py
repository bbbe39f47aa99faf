"""Render benchmarks as text, a terminal table or JSON, and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from inceptionnext_lit.reports.benchmark.measurement import Measurement
from inceptionnext_lit.reports.tables import render_records, render_table
from inceptionnext_lit.wording import count

Format = Literal["table", "json"]
Axis = Literal["image_size", "batch_size"]
_SETTINGS = ("model", "variant", "precision", "layout", "memory", "pixels", "batch")
_COLUMNS = ("img/s", "min–max", "ratio", "min–max", "GFLOP/s", "of matmul", "bound img/s", "MiB", "ready in s")
_UNSTEADY = 1.5  # ratio of the fastest round to the slowest


def render(measurements: Sequence[Measurement], style: Format) -> str:
    """Render measurements as text.

    Args:
        measurements: The measurements.
        style: ``"json"`` has plain numbers under stable names.
    """
    records = [measurement.record() for measurement in measurements]
    return render_records(records, "json") if style == "json" else _table(records)


def _table(records: Sequence[dict[str, Any]]) -> str:
    first = records[0]
    products: dict[str, list[float]] = {}
    for record in records:
        if record["matmul_gflop_per_s"] is not None:
            products.setdefault(record["precision"], []).append(record["matmul_gflop_per_s"])
    rounds = [record["rounds"] for record in records]  # of several sizes, the last may be interrupted
    counted = count(max(rounds), "round") if min(rounds) == max(rounds) else f"{_range(rounds)} rounds"
    devices = " and ".join(dict.fromkeys(record["device"] for record in records))
    title = f"{first['mode']} on {devices}, {count(first['threads'], 'thread')}, {counted}"
    if products:
        reached = (f"{_range(speeds)} GFLOP/s in {precision}" for precision, speeds in products.items())
        title += f"; matrix products reach {', '.join(reached)}"
    lines = [
        [
            record["model"],
            record["variant"],
            record["precision"],
            record["layout"] or "–",
            "kept" if record["keeps_memory"] else "freed",
            str(size) if isinstance(size := record["image_size"], int) else "×".join(map(str, size)),
            str(record["batch_size"]),
            _rate(record["images_per_s"]),
            f"{_rate(record['images_per_s_min'])}–{_rate(record['images_per_s_max'])}",
            f"{record['ratio']:.2f}",
            f"{record['ratio_min']:.2f}–{record['ratio_max']:.2f}",
            _number(record["gflop_per_s"], ".0f"),
            _number(record["share_of_matmul"], ".0%"),
            _rate(record["images_per_s_bound"]),
            _number(record["peak_memory_mib"], ".0f"),
            f"{record['warm_up_s']:.1f}",
        ]
        for record in records
    ]
    return render_table([*_SETTINGS, *_COLUMNS], lines, title=title, numbers=_COLUMNS)


def _range(values: Sequence[float]) -> str:
    return "–".join(dict.fromkeys(f"{value:.0f}" for value in (min(values), max(values))))


def _rate(value: float | None) -> str:
    """Three significant digits, as images of 512 × 2048 pixels take seconds each; whole numbers from 100 on."""
    if value is None:
        return "–"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _number(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)


def describe_unsteady(measurements: Sequence[Measurement]) -> str:
    """Return a sentence about the case whose speed varied the most between rounds, if by half or more; else nothing."""
    worst = max(measurements, key=lambda one: max(one.rates) / min(one.rates))
    low, high = min(worst.rates), max(worst.rates)
    if high / low < _UNSTEADY:
        return ""
    return (
        f"The speed of {worst.case.title} ({worst.case.variant}) varied from {_rate(low)} to {_rate(high)} images per "
        "second between rounds, so other programs may be using this machine; repeat the benchmark when it is idle."
    )


def draw_scaling(measurements: Sequence[Measurement], axis: Axis, path: Path) -> None:
    """Plot the time per image against the image or batch size.

    Args:
        measurements: Measurements of each model at several sizes.
        axis: The size that varies.
        path: The file to write, ``.svg`` or ``.png``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = [measurement.record() for measurement in measurements]
    figure, panel = pyplot.subplots(figsize=(5.5, 4), layout="constrained")
    for name in dict.fromkeys((record["model"], record["variant"]) for record in records):
        own = [record for record in records if (record["model"], record["variant"]) == name]
        times = [1000 / record["images_per_s"] for record in own]
        below = [time - 1000 / record["images_per_s_max"] for time, record in zip(times, own, strict=True)]
        above = [1000 / record["images_per_s_min"] - time for time, record in zip(times, own, strict=True)]
        panel.errorbar([record[axis] for record in own], times, [below, above], marker="o", ms=4, label=" ".join(name))
    first = records[0]
    fixed = f"batch size {first['batch_size']}" if axis == "image_size" else f"{_pixels(records)} pixels"
    title = f"{first['mode']}, {first['precision']}, {fixed}, {count(first['threads'], 'thread')} on {first['device']}"
    labels = {"image_size": "image side (pixels)", "batch_size": "images per step"}
    panel.set(title=title, xlabel=labels[axis], ylabel="time per image (ms)", ylim=(0, None))
    sizes = sorted({record[axis] for record in records})
    if axis == "batch_size":  # which are usually doubled
        panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, list(map(str, sizes)))
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path)


def _pixels(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the image sizes of records, such as ``28`` or ``64×100``."""
    sizes = [record["image_size"] for record in records]
    texts = ["×".join(map(str, size)) if isinstance(size, list) else str(size) for size in sizes]
    return " and ".join(dict.fromkeys(texts))
