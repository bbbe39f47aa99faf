"""Render budget reports as text: a terminal table, Markdown, CSV or JSON."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from inceptionnext_lit.models.cost import Cost, Count
from inceptionnext_lit.reports import Format
from inceptionnext_lit.reports.budget.inception import KINDS, TABLE, ModuleCost
from inceptionnext_lit.reports.budget.report import MACS_UNIT, PARAMS_UNIT, BudgetRow
from inceptionnext_lit.reports.tables import Layout, render_records, render_table

Cells = list[str]

_HEADERS = ["model", "timm name", "pixels", "params (M)", "paper", "diff.", "MACs (G)", "paper", "diff.", "act. (M)"]
_NUMBERS = {
    "params (M)",
    "paper",
    "diff.",
    "MACs (G)",
    "act. (M)",
    "top-1 (%)",
    "mIoU (%)",
    "share",
    "params ×",
    "MACs ×",
}


def render_report(rows: Sequence[BudgetRow], style: Format, modules: Sequence[ModuleCost] = ()) -> str:
    """Render rows as text, with one table per table of the paper, and a last one of Inception modules.

    Args:
        rows: The report's rows, grouped by table.
        style: The format; ``"csv"`` and ``"json"`` have plain numbers under stable names, without headings.
        modules: Costs of Inception modules, in all forms of a module before the next one.
    """
    if style == "csv" or style == "json":
        return render_records([*(row.record() for row in rows), *(one.record() for one in modules)], style)
    parts = []
    for name in dict.fromkeys(row.table for row in rows):
        lines = [_cells(row) for row in rows if row.table == name]
        score = "mIoU (%)" if any(row.paper and row.paper.miou for row in rows if row.table == name) else "top-1 (%)"
        parts.append(render_table([*_HEADERS, score, "verdict"], lines, style, title=name, numbers=_NUMBERS))
    if modules:
        parts.append(_render_modules(modules, style))
    return "\n".join(parts)


def render_models(
    report: Sequence[tuple[BudgetRow, Count]], style: Format, depth: int | None = None, with_ratios: bool = False
) -> str:
    """Render rows of single models as text, with their modules and their ratios to a reference.

    Args:
        report: Rows and their counts.
        style: The format.
        depth: Depth of the module tree to show; None omits the modules.
        with_ratios: Whether ``"csv"`` and ``"json"`` also have the ratios to a reference; tables always do.
    """
    if style == "csv" or style == "json":
        records = [row.record() | (_ratios(row) if with_ratios else {}) for row, _ in report]
        if depth is not None and style == "json":
            records = [
                record | {"modules": _module_records(count, depth)}
                for record, (_, count) in zip(records, report, strict=True)
            ]
        elif depth is not None:
            records = [{"model": row.model} | part for row, count in report for part in _module_records(count, depth)]
        return render_records(records, style)
    rows = [row for row, _ in report]
    held = any(row.reference for row in rows)
    score = "mIoU (%)" if any(" + " in row.model for row in rows) else "top-1 (%)"
    headers = [*_HEADERS[1:], score, "verdict"] + (["params ×", "MACs ×", "of"] if held else [])
    lines = [_cells(row)[1:] + (_ratio_cells(row) if held else []) for row in rows]
    parts = [render_table(headers, lines, style, numbers=_NUMBERS)]
    if depth is not None:
        for row, count in report:
            parts.append(_module_table(row, count, depth, style))
    return "\n".join(parts)


def _render_modules(modules: Sequence[ModuleCost], style: Layout) -> str:
    """Render a line per module, with the parameters (k) and MACs (M) of its forms side by side."""
    lines = []
    for name in dict.fromkeys(one.module for one in modules):
        forms = {one.kind: one for one in modules if one.module == name}
        naive, reduced = forms["naive"], forms["reduced"]
        line = [name, f"{naive.side}×{naive.side}", str(naive.in_dim), str(naive.out_dim), str(reduced.out_dim)]
        for kind in KINDS:
            cost = forms[kind].cost if kind in forms else None
            line += [f"{cost.params / 1e3:.1f}", f"{cost.macs / 1e6:.2f}"] if cost else ["–", "–"]
        lines.append(line)
    headers = ["module", "size", "in", "out, naive", "out, others"]
    headers += [f"{kind}: {unit}" for kind in KINDS for unit in ("params (k)", "MACs (M)")]
    return render_table(headers, lines, style, title=TABLE, numbers=headers[2:])


def _cells(row: BudgetRow) -> Cells:
    cost, paper = row.cost, row.paper
    height, width = row.size
    return [
        row.label,
        row.model,
        str(height) if height == width else f"{height}×{width}",
        *_value_cells(cost.params, PARAMS_UNIT, paper.params if paper else None),
        *_value_cells(cost.macs, MACS_UNIT, paper.macs if paper else None),
        f"{cost.activations / 1e6:.1f}",
        str(paper.top1 or paper.miou or "–") if paper else "–",
        row.verdict,
    ]


def _value_cells(count: int, unit: int, printed: str | None) -> Cells:
    """Return a count with two digits more than printed, the printed value, and their difference."""
    if printed is None:
        return [f"{count / unit:.4g}" if count < 1000 * unit else f"{count / unit:.1f}", "–", "–"]
    digits = max(0, -int(Decimal(printed).as_tuple().exponent)) + 2
    return [f"{count / unit:.{digits}f}", printed, f"{count / unit - float(printed):+.{digits}f}"]


def _ratios(row: BudgetRow) -> dict[str, Any]:
    cost, reference = row.cost, row.reference
    if reference is None:
        return {"against": None, "params_ratio": None, "macs_ratio": None}
    return {
        "against": row.against,
        "params_ratio": round(cost.params / reference.params, 4),
        "macs_ratio": round(cost.macs / reference.macs, 4),
    }


def _ratio_cells(row: BudgetRow) -> Cells:
    ratios = _ratios(row)
    if ratios["against"] is None:
        return ["–", "–", "–"]
    return [f"{ratios['params_ratio']:.3f}", f"{ratios['macs_ratio']:.3f}", ratios["against"]]


def _module_records(count: Count, depth: int) -> list[dict[str, Any]]:
    """Return the modules of a model down to a depth with their shares, and what each does outside its children."""
    parts = []
    for name, cost in count.modules.items():
        level = name.count(".") + 1 if name else 0
        if level > depth or (cost.params, cost.macs) == (0, 0):
            continue
        parts.append(_module_record(name or "(all)", cost, count.total))
        children = [n for n in count.modules if n and n.rpartition(".")[0] == name]
        if children and level < depth:
            rest = Cost(
                *(
                    getattr(cost, key) - sum(getattr(count.modules[child], key) for child in children)
                    for key in ("params", "macs", "activations")
                )
            )
            if (rest.params or rest.macs) and rest != cost:
                parts.append(_module_record(f"{name}.(itself)".lstrip("."), rest, count.total))
    return parts


def _module_record(name: str, cost: Cost, total: Cost) -> dict[str, Any]:
    return {
        "module": name,
        "params": cost.params,
        "params_share": round(cost.params / total.params, 4) if total.params else 0.0,
        "macs": cost.macs,
        "macs_share": round(cost.macs / total.macs, 4) if total.macs else 0.0,
        "activations": cost.activations,
    }


def _module_table(row: BudgetRow, count: Count, depth: int, style: Layout) -> str:
    lines = []
    for part in _module_records(count, depth):
        path = part["module"]
        indent = "" if path == "(all)" else "  " * (path.count(".") + 1)
        shown = indent + path.rpartition(".")[2] if style == "table" else path
        lines.append(
            [
                shown,
                f"{part['params'] / 1e6:.3f}",
                f"{part['params_share']:.1%}",
                f"{part['macs'] / 1e9:.4f}",
                f"{part['macs_share']:.1%}",
                f"{part['activations'] / 1e6:.2f}",
            ]
        )
    headers = ["module", "params (M)", "share", "MACs (G)", "share", "act. (M)"]
    return render_table(headers, lines, style, title=row.model, numbers=_NUMBERS)
