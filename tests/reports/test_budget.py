"""Counts of the paper's tables: verdicts, printed values, and the tables of docs/paper.md."""

import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from inceptionnext_lit.models.cost import Cost, Count, count_model
from inceptionnext_lit.reports.budget.inception import module_costs
from inceptionnext_lit.reports.budget.paper import TABLES, PaperRow, PaperTable
from inceptionnext_lit.reports.budget.rendering import render_report
from inceptionnext_lit.reports.budget.report import (
    BudgetRow,
    agreement,
    is_ours,
    judge,
    model_report,
    paper_jobs,
    paper_report,
    reference_of,
)
from tests.recipes import REPO

PAGE = (REPO / "docs/paper.md").read_text(encoding="utf-8")
ISOTROPIC, ABLATIONS, TABLE10 = TABLES[1:4]

# Parameters in millions and MACs in 10⁹ as the paper prints them.
PRINTED = {
    ISOTROPIC.name: {
        "DeiT-S": ("22", "4.6"),
        "MetaNeXt-Attn": ("22", "4.6"),
        "ConvNeXt-S (iso.)": ("22", "4.3"),
        "InceptionNeXt-S (iso.)": ("22", "4.2"),
        "DeiT-B": ("87", "17.6"),
        "ConvNeXt-B (iso.)": ("87", "16.9"),
        "InceptionNeXt-B (iso.)": ("86", "16.8"),
    },
    ABLATIONS.name: {
        "baseline": ("28.1", "4.2"),
        "no horizontal band kernel": ("28.0", "4.2"),
        "no vertical band kernel": ("28.0", "4.2"),
        "no small square kernel": ("28.0", "4.2"),
        "bands in sequence": ("28.1", "4.2"),
        "band kernel 7": ("28.0", "4.2"),
        "band kernel 9": ("28.0", "4.2"),
        "band kernel 13": ("28.1", "4.2"),
        "branch ratio 1/4": ("28.1", "4.2"),
        "branch ratio 1/16": ("28.0", "4.2"),
    },
    TABLE10.name: {
        "kernel 7": ("28.6", "4.5"),
        "kernel 5": ("28.4", "4.4"),
        **{f"kernel 3{ratio}": ("28.3", "4.4") for ratio in ("", *(f", ratio {r}" for r in ("1/2", "3/8")))},
        **{f"kernel 3, ratio {ratio}": ("28.3", "4.4") for ratio in ("1/4", "1/8", "1/16")},
    },
}
TWICE = ("band kernel 9",)  # 28.052 millions, printed as 28.0


ENDS = ("DeiT-S", "InceptionNeXt-S (iso.)", "baseline", "band kernel 9", "kernel 7", "kernel 3, ratio 1/16")


@pytest.fixture(scope="module", params=["ends", pytest.param("whole", marks=pytest.mark.slow)])
def tables(request: pytest.FixtureRequest) -> list[PaperTable]:
    """The tables whose models are all counted in seconds: two rows of each, or all."""
    found = [ISOTROPIC, ABLATIONS, TABLE10]
    if request.param == "whole":
        return found
    return [replace(table, rows=tuple(row for row in table.rows if row.label in ENDS)) for table in found]


@pytest.fixture(scope="module")
def counted(tables: list[PaperTable]) -> list[BudgetRow]:
    """The report on these tables."""
    return paper_report(tables)


@pytest.fixture(scope="module")
def whole() -> list[BudgetRow]:
    """The report on all tables."""
    return paper_report()


@pytest.mark.parametrize(
    ("count", "unit", "printed", "expected"),
    [
        (28_055_680, 10**6, "28.1", "once"),
        (28_052_000, 10**6, "28.0", "twice"),
        (28_052_000, 10**6, "28.1", "once"),
        (28_056_000, 10**6, "28.0", "off"),
        (28_050_000, 10**6, "28.1", "once"),
        (28_049_999, 10**6, "28.0", "once"),
        (28_049_999, 10**6, "28.1", "twice"),
        (28_044_999, 10**6, "28.1", "off"),
        (27_950_000, 10**6, "28.0", "once"),
        (27_949_999, 10**6, "28.0", "twice"),
        (27_944_000, 10**6, "28.0", "off"),
        (504_900_000, 10**9, "0.51", "twice"),
        (504_900_000, 10**9, "0.50", "once"),
        (504_900_000, 10**9, "0.49", "off"),
        (504_400_000, 10**9, "0.51", "off"),
        (86_499_999, 10**6, "86", "once"),
        (86_499_999, 10**6, "87", "twice"),
        (86_500_000, 10**6, "87", "once"),
        (86_449_999, 10**6, "87", "off"),
        (22_000_000, 10**6, "22", "once"),
        (22_000_000, 10**6, "23", "off"),
        (0, 10**6, "0.0", "once"),
    ],
)
def test_agreement_of_a_count_and_a_printed_value(count: int, unit: int, printed: str, expected: str) -> None:
    assert agreement(count, unit, printed) == expected


def counted_as(params: int, macs: int, **uncounted: int) -> Count:
    total = Cost(params, macs, 0)
    return Count(total, {"": total}, uncounted)


@pytest.mark.parametrize(
    ("params", "macs", "note", "verdict"),
    [
        (22_400_000, 4_649_000_000, None, "ok"),
        (22_400_000, 4_551_000_000, "a stale note", "ok"),
        (22_490_000, 4_546_000_000, None, "ok (rounded twice)"),
        (22_600_000, 4_600_000_000, None, "off: 22.60 M parameters, not 22"),
        (22_000_000, 4_700_000_000, None, "off: 4.70 G MACs, not 4.6"),
        (23_000_000, 4_700_000_000, None, "off: 23.00 M parameters, not 22 and 4.70 G MACs, not 4.6"),
        (23_000_000, 4_546_000_000, None, "off: 23.00 M parameters, not 22"),
        (23_000_000, 4_600_000_000, "another head", "known difference: another head"),
    ],
)
def test_the_verdict_on_a_count(params: int, macs: int, note: str | None, verdict: str) -> None:
    assert judge(counted_as(params, macs), PaperRow("DeiT-S", "x", "22", "4.6", note=note)) == verdict


def test_the_verdict_if_the_paper_prints_nothing_or_one_value() -> None:
    found = counted_as(22_000_000, 4_600_000_000)
    assert judge(found, None) == "no paper figure"
    assert judge(found, PaperRow("DeiT-S", "x", note="a guest")) == "no paper figure: a guest"
    assert judge(found, PaperRow("DeiT-S", "x", params="22")) == "ok"
    assert judge(found, PaperRow("DeiT-S", "x", macs="4.7")) == "off: 4.60 G MACs, not 4.7"


def test_the_verdict_names_the_merged_form() -> None:
    found = replace(counted_as(79_400_000, 15_350_000_000), merged=True)
    paper = PaperRow("RepLKNet-31B", "x", "79", "15.3")
    assert judge(found, paper) == "ok (rounded twice); counted in the merged form"
    assert judge(found, None) == "no paper figure; counted in the merged form"


def test_what_is_not_counted_comes_before_all_other_verdicts() -> None:
    gap = counted_as(22_000_000, 4_600_000_000, mv=1, cdist=12)
    assert judge(gap, PaperRow("DeiT-S", "x", "22", "4.6", note="n")) == "not counted: cdist (×12), mv (×1)"
    assert judge(gap, None) == "not counted: cdist (×12), mv (×1)"


@pytest.mark.parametrize(
    ("model", "verdict", "failed"),
    [
        ("inceptionnext_tiny", "off: 4.3 G MACs, not 4.2", True),
        ("inceptionnext_tiny + UperNet", "off: 4.3 G MACs, not 4.2", True),
        ("inceptionnext_tiny", "ok", False),
        ("inceptionnext_tiny", "ok (rounded twice)", False),
        ("inceptionnext_tiny", "no paper figure", False),
        ("resnet50", "off: 4.3 G MACs, not 4.2", False),
        ("resnet50", "not counted: aten::mv (×1)", True),
        ("inceptionnext_tiny", "not counted: aten::mv (×1)", True),
    ],
)
def test_rows_that_fail(model: str, verdict: str, failed: bool) -> None:
    assert BudgetRow("label", model, (224, 224), Cost(1, 1, 1), None, None, verdict).failed is failed


@pytest.mark.parametrize(
    ("model", "ours"),
    [
        ("inceptionnext_tiny", True),
        ("convnext_tiny_k5", True),
        ("inceptionnext_base + SemanticFPN", True),
        ("convnext_tiny", False),
        ("inception_next_tiny", False),
    ],
)
def test_which_models_are_ours(model: str, ours: bool) -> None:
    assert is_ours(model) is ours


@pytest.mark.slow
def test_rows_keep_the_tables_order(tables: list[PaperTable], counted: list[BudgetRow]) -> None:
    lines = [(table.name, line) for table in tables for line in table.rows]
    assert [(row.table, row.paper) for row in counted] == lines
    assert [(row.label, row.model, row.size) for row in counted] == [(p.label, p.model, p.image_size) for _, p in lines]
    assert all(row.cost and row.cost.activations > 7e6 for row in counted)


def labels(tables: list[PaperTable]) -> list[str]:
    return [row.label for table in tables for row in table.rows]


def test_isotropic_models_ablations_and_table_10_are_the_paper_s(
    tables: list[PaperTable], counted: list[BudgetRow]
) -> None:
    assert {row.label: row.verdict for row in counted} == {
        label: "ok (rounded twice)" if label in TWICE else "ok" for label in labels(tables)
    }
    assert not any(row.failed for row in counted)


def test_counts_round_to_the_printed_values(tables: list[PaperTable], counted: list[BudgetRow]) -> None:
    for table in tables:
        rows = [row for row in counted if row.table == table.name]
        assert [row.label for row in rows] == labels([table])
        for row in rows:
            params, macs = PRINTED[table.name][row.label]
            assert f"{row.cost.macs / 1e9:.1f}" == macs
            if row.label not in TWICE:
                assert f"{row.cost.params / 1e6:.{len(params.partition('.')[2])}f}" == params


@pytest.mark.parametrize("table", [ISOTROPIC, ABLATIONS, TABLE10], ids=lambda table: table.name)
def test_the_tables_have_the_printed_values(table: PaperTable) -> None:
    assert [(row.label, (row.params, row.macs)) for row in table.rows] == [*PRINTED[table.name].items()]


@pytest.mark.parametrize("number", range(3))
def test_the_page_shows_these_tables(number: int, tables: list[PaperTable], counted: list[BudgetRow]) -> None:
    table = tables[number]
    text = render_report([row for row in counted if row.table == table.name], "markdown")
    assert text.startswith(f"### {table.name}\n\n| model | timm name | pixels | params (M) | paper | ")
    assert text.count("\n") == 4 + len(table.rows)
    assert set(text.splitlines()) <= set(PAGE.splitlines())
    if table in TABLES:
        assert text in PAGE


def changed(table: PaperTable, label: str, **values: str) -> PaperTable:
    """Return the table with other printed values in one row."""
    [row] = [row for row in table.rows if row.label == label]
    return replace(table, rows=(replace(row, **values),))


@pytest.mark.slow
def test_a_row_of_ours_that_is_off_fails_and_says_by_how_much() -> None:
    table = changed(ISOTROPIC, "InceptionNeXt-S (iso.)", params="23", macs="4.1")
    [row] = paper_report([table])
    assert (row.model, row.failed) == ("inceptionnext_iso_small", True)
    assert row.verdict == "off: 21.99 M parameters, not 23 and 4.23 G MACs, not 4.1"


def test_a_baseline_that_is_off_does_not_fail_the_run() -> None:
    [row] = paper_report([changed(ISOTROPIC, "DeiT-S", macs="4.5")])
    assert (row.model, row.failed) == ("deit_small_patch16_224", False)
    assert row.verdict == "off: 4.61 G MACs, not 4.5"


def test_a_model_with_several_rows_is_counted_once() -> None:
    seen: list[str] = []
    line = PaperRow("a", "inceptionnext_iso_micro", "0.1", "0.0", image_size=(28, 28))
    table = PaperTable("Table", (line, replace(line, label="b"), replace(line, label="c", image_size=(56, 56))))
    rows = paper_report([table], seen.append)
    assert seen == ["inceptionnext_iso_micro", "inceptionnext_iso_micro"]
    assert [(row.label, row.size) for row in rows] == [("a", (28, 28)), ("b", (28, 28)), ("c", (56, 56))]
    assert rows[0].cost == rows[1].cost == count_model("inceptionnext_iso_micro")[0].total
    assert rows[2].cost == count_model("inceptionnext_iso_micro", (56, 56))[0].total


def test_what_the_paper_needs_counted() -> None:
    jobs = paper_jobs()
    assert len(jobs) == len(set(jobs)) == 78
    assert jobs[0] == ("deit_small_patch16_224", (224, 224), None)
    assert ("convnext_base", (384, 384), None) in jobs
    assert jobs[-1] == ("inceptionnext_base", (512, 512), "SemanticFPN")
    assert sum(size == (512, 2048) and decoder == "UperNet" for _, size, decoder in jobs) == 9


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("inceptionnext_iso_small", "deit_small_patch16_224"),
        ("convnext_iso_base", "deit_base_patch16_224"),
        ("metanext_attn_small", "deit_small_patch16_224"),
        ("convnext_iso_large", None),  # there is no DeiT of 1024 channels
        ("inceptionnext_iso_nano", None),
        ("inceptionnext_tiny", None),
        ("resnet50", None),
    ],
)
def test_isotropic_models_are_compared_with_the_deit_of_their_width(name: str, reference: str | None) -> None:
    assert reference_of(name) == reference


def test_single_models_with_the_paper_and_their_reference() -> None:
    [(row, found)] = model_report(["inceptionnext_iso_small"])
    assert row.paper is ISOTROPIC.rows[3]
    assert (row.label, row.model, row.size) == ("inceptionnext_iso_small", "inceptionnext_iso_small", (224, 224))
    assert (row.table, row.verdict) == (ISOTROPIC.name, "ok")
    assert row.cost == found.total == Cost(21_992_488, 4_228_021_248, 7_358_056)
    assert row.against == "deit_small_patch16_224"
    assert row.reference == Cost(22_050_664, 4_608_338_304, 11_948_272)
    assert round(row.cost.macs / row.reference.macs, 3) == 0.917


def test_single_models_at_another_size_have_no_paper_value() -> None:
    rows = [row for row, _ in model_report(["inceptionnext_atto", "inceptionnext_iso_nano"], (32, 64))]
    assert [(row.model, row.size, row.paper, row.table, row.verdict) for row in rows] == [
        (name, (32, 64), None, None, "no paper figure") for name in ("inceptionnext_atto", "inceptionnext_iso_nano")
    ]
    assert [(row.against, row.reference) for row in rows] == [(None, None)] * 2


def test_the_reference_is_counted_at_the_model_s_size() -> None:
    [(row, _)] = model_report(["inceptionnext_iso_nano"], (28, 56), against="convnext_iso_nano")
    assert row.against == "convnext_iso_nano"
    assert row.reference == count_model("convnext_iso_nano", (28, 56))[0].total
    assert row.reference.macs > count_model("convnext_iso_nano")[0].total.macs


def test_a_row_as_plain_values() -> None:
    line = PaperRow("Swin-T", "swin", "29", "4.5", 81.3)
    row = BudgetRow("Swin-T", "swin", (512, 2048), Cost(1, 2, 3), line, "Table 1", "ok")
    assert row.record() == {
        "model": "swin",
        "image_size": [512, 2048],
        "params": 1,
        "macs": 2,
        "activations": 3,
        "paper_params_m": 29.0,
        "paper_macs_g": 4.5,
        "paper_top1": 81.3,
        "table": "Table 1",
        "verdict": "ok",
    }


@pytest.mark.slow
def test_no_row_of_the_whole_report_fails_and_no_note_is_stale(whole: list[BudgetRow]) -> None:
    assert [(row.model, row.verdict) for row in whole if row.failed or row.verdict.startswith("off")] == []
    assert len(whole) == sum(len(table.rows) for table in TABLES)
    noted = [row for row in whole if row.model and row.paper and row.paper.note]
    assert len(noted) == 11
    assert {row.verdict.partition(":")[0] for row in noted} == {"known difference", "no paper figure"}
    assert {(row.label, row.model) for row in whole if row.verdict == "ok (rounded twice)"} == {
        ("InceptionNeXt-A", "inceptionnext_atto"),
        ("T2T-ViT-14", "t2t_vit_14"),
        ("band kernel 9", "inceptionnext_tiny_band9"),
        ("ConvNeXt-S", "convnext_small + UperNet"),
    }


@pytest.mark.slow
def test_the_readme_shows_the_whole_report(
    whole: list[BudgetRow], shell: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = shell("budget", "--format", "markdown")
    assert done.returncode == 0, done.stderr
    assert done.stdout == render_report(whole, "markdown", module_costs())
    assert done.stdout in PAGE
