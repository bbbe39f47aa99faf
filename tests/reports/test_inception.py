"""Costs of Inception modules: by formulas of their own, in all formats, and in the command ``budget``."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import suppress

import pytest

from inceptionnext_lit.models import BASELINES
from inceptionnext_lit.models.baselines.googlenet import MODULES, Widths
from inceptionnext_lit.models.cost import Cost
from inceptionnext_lit.reports.budget.inception import KINDS, NETWORK, TABLE, ModuleCost, module_costs
from inceptionnext_lit.reports.budget.rendering import render_report
from inceptionnext_lit.reports.budget.report import BudgetRow
from tests.recipes import REPO

ROWS = [BudgetRow("x", "resnet50", (224, 224), Cost(25_560_000, 4_112_000_000, 11_100_000), None, "Table 1", "ok")]
TWO = [
    ModuleCost("3a", "naive", 28, 192, 416, Cost(387_520, 303_815_680, 175_616)),
    ModuleCost("3a", "reduced", 28, 192, 256, Cost(164_064, 128_626_176, 288_512)),
]


@pytest.fixture(scope="module")
def costs() -> dict[tuple[str, str], ModuleCost]:
    """The report by module and kind."""
    return {(one.module, one.kind): one for one in module_costs()}


def weights(dim: int, widths: Widths, kind: str) -> tuple[int, int]:
    """Weights of a module's convolutions, and their output channels."""
    one, reduce3, three, reduce5, five, project = widths
    if kind == "naive":
        return dim * (one + 9 * three + 25 * five), one + three + five
    large = 25 if kind == "reduced" else 9
    inner = 9 * reduce3 * three + large * reduce5 * five
    return dim * (one + reduce3 + reduce5 + project) + inner, sum(widths)


@pytest.mark.slow
def test_modules_cost_what_their_convolutions_and_norms_cost(costs: dict[tuple[str, str], ModuleCost]) -> None:
    dim = 192
    for name, widths in MODULES.items():
        out = widths.square1 + widths.square3 + widths.square5 + widths.project
        side = {"3": 28, "4": 14, "5": 7}[name[0]]
        for kind in KINDS[:3]:
            found = costs[name, kind]
            size, channels = weights(dim, widths, kind)
            assert found.cost.params == size + 2 * channels
            assert found.cost.macs == (size + 2 * channels) * side**2  # a norm counts as 2 per element
            assert (found.side, found.in_dim) == (side, dim)
            assert found.out_dim == (out if kind != "naive" else out - widths.project + dim)
        mixer, width = costs[name, KINDS[3]], out // 8
        assert (mixer.in_dim, mixer.out_dim) == (out, out)
        assert mixer.cost.params == width * (9 + 11 + 11 + 3)
        assert mixer.cost.macs == width * (9 + 11 + 11) * side**2
        dim = out


@pytest.mark.slow
def test_the_networks_are_the_rows_of_the_registry(costs: dict[tuple[str, str], ModuleCost]) -> None:
    rows = {row.name: row for row in BASELINES}
    for kind, name in (("naive", "googlenet_naive"), ("3×3 for 5×5", "googlenet")):
        cost = costs[NETWORK, kind].cost
        assert (round(cost.params / 1e6, 2), round(cost.macs / 1e9, 4)) == (rows[name].params_m, rows[name].macs_g)
    reduced = costs[NETWORK, "reduced"].cost
    difference = sum(costs[name, "reduced"].cost.params - costs[name, "3×3 for 5×5"].cost.params for name in MODULES)
    assert reduced.params - costs[NETWORK, "3×3 for 5×5"].cost.params == difference
    assert len(costs) == 9 * 4 + 3


@pytest.mark.slow
def test_the_page_shows_the_table(costs: dict[tuple[str, str], ModuleCost]) -> None:
    table = render_report([], "markdown", list(costs.values()))
    assert table.startswith(f"### {TABLE}\n\n| module | size | in | out, naive | out, others | naive: params (k) | ")
    assert table in (REPO / "docs/paper.md").read_text(encoding="utf-8")


def test_a_line_per_module() -> None:
    header, rule, line = render_report([], "markdown", TWO).splitlines()[2:]
    assert rule.count("--:") == 11
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        *("3a", "28×28", "192", "416", "256", "387.5", "303.82", "164.1", "128.63", "–", "–", "–", "–"),
    ]  # fmt: skip
    assert [cell.strip() for cell in header.strip("|").split("|")][5:9] == [
        *("naive: params (k)", "naive: MACs (M)", "reduced: params (k)", "reduced: MACs (M)"),
    ]  # fmt: skip


def test_records_have_the_reports_names() -> None:
    found = json.loads(render_report(ROWS, "json", TWO))
    assert found[0] == json.loads(render_report(ROWS, "json"))[0]
    assert [list(record) for record in found] == [list(ROWS[0].record())] * 3
    assert [value for value in found[1].values() if value is not None] == [
        *("googlenet 3a: naive", 28, 387_520, 303_815_680, 175_616, TABLE, "no paper figure"),
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(render_report(ROWS, "csv", TWO))))
    assert [row["model"] for row in rows] == ["resnet50", "googlenet 3a: naive", "googlenet 3a: reduced"]


@pytest.mark.parametrize(("task", "shown"), [(None, True), ("classify", True), ("segment", False)])
def test_the_command_shows_them_after_the_papers_tables(
    task: str | None, shown: bool, cli: Callable[..., None], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("inceptionnext_lit.reports.budget.report.paper_report", lambda tables, tick: ROWS)
    monkeypatch.setattr("inceptionnext_lit.reports.budget.inception.module_costs", lambda: TWO)
    with suppress(SystemExit):
        cli("budget", "--format", "json", *(["--task", task] if task else []))
    found = json.loads(capsys.readouterr().out)
    assert [record["table"] for record in found] == ["Table 1"] + [TABLE] * 2 * shown
