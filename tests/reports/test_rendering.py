"""The report's formats, for hand-made rows."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from inceptionnext_lit.models.cost import Cost, Count
from inceptionnext_lit.reports.budget.paper import PaperRow
from inceptionnext_lit.reports.budget.rendering import Format, render_models, render_report
from inceptionnext_lit.reports.budget.report import BudgetRow

KEYS = [
    *("model", "image_size", "params", "macs", "activations"),
    *("paper_params_m", "paper_macs_g", "paper_top1", "table", "verdict"),
]
RATIOS = ["against", "params_ratio", "macs_ratio"]

COUNTED = BudgetRow(
    "InceptionNeXt-T",
    "inceptionnext_tiny",
    (224, 224),
    Cost(28_055_680, 4_194_629_280, 11_984_392),
    PaperRow("InceptionNeXt-T", "inceptionnext_tiny", "28", "4.2", 82.3, 901, 2900),
    "Table 1",
    "ok",
)
OFF = BudgetRow(
    "Focal-T",
    "focal_tiny",
    (224, 224),
    Cost(28_870_000, 4_800_000_000, 20_000_000),
    PaperRow("Focal-T", "focal_tiny", "29", "4.9", 82.2),
    "Table 1",
    "off: 4.80 G MACs, not 4.9",
)
GUEST = BudgetRow(
    "PVTv2-B3",
    "pvt_v2_b3",
    (224, 224),
    Cost(45_238_696, 6_925_000_000, 37_700_000),
    PaperRow("PVTv2-B3", "pvt_v2_b3", note="a guest, from elsewhere"),
    "Table 1",
    "no paper figure: a guest, from elsewhere",
)
SEGMENTER = BudgetRow(
    "Swin-B",
    "swin_base_patch4_window7_224 + UperNet",
    (512, 2048),
    Cost(121_280_000, 1_188_370_000_000, 948_500_000),
    PaperRow("Swin-B", "swin_base_patch4_window7_224", "121", "1188", miou=49.7, image_size=(512, 2048)),
    "ADE20K: UperNet",
    "ok",
)
ROWS = [COUNTED, OFF, GUEST, SEGMENTER]

# A model whose stem and two blocks do all but a little of its work.
MODULES = {
    "": Cost(1000, 8000, 300),
    "stem": Cost(100, 1000, 100),
    "stem.act": Cost(0, 0, 0),
    "blocks": Cost(800, 6000, 200),
    "blocks.0": Cost(400, 4000, 100),
    "blocks.0.fc": Cost(300, 2500, 100),
    "blocks.1": Cost(400, 2000, 100),
    "drop": Cost(0, 0, 0),
}
COUNT = Count(MODULES[""], MODULES, {})
SINGLE = BudgetRow("some_model", "some_model", (28, 56), MODULES[""], None, None, "no paper figure")
HELD = replace(SINGLE, against="other_model", reference=Cost(900, 12_000, 1))


def records(text: str) -> list[dict[str, Any]]:
    return json.loads(text)


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def test_json_holds_every_row_under_stable_names() -> None:
    counted, off, guest, segmenter = records(render_report(ROWS, "json"))
    assert [list(record) for record in (counted, off, guest, segmenter)] == [KEYS] * 4
    assert counted == {
        "model": "inceptionnext_tiny",
        "image_size": 224,
        "params": 28_055_680,
        "macs": 4_194_629_280,
        "activations": 11_984_392,
        "paper_params_m": 28.0,
        "paper_macs_g": 4.2,
        "paper_top1": 82.3,
        "table": "Table 1",
        "verdict": "ok",
    }
    assert [off[key] for key in KEYS] == [
        *("focal_tiny", 224, 28_870_000, 4_800_000_000, 20_000_000, 29.0, 4.9, 82.2, "Table 1"),
        "off: 4.80 G MACs, not 4.9",
    ]
    assert [guest[key] for key in KEYS[5:8]] == [None, None, None]
    assert segmenter["image_size"] == [512, 2048]
    assert segmenter["paper_top1"] is None


def test_csv_holds_the_same_and_nothing_where_json_has_null() -> None:
    text = render_report(ROWS, "csv")
    assert text.splitlines()[0] == ",".join(KEYS)
    assert text.count("\n") == 1 + len(ROWS)
    parsed = list(csv.DictReader(io.StringIO(text)))
    for row, record in zip(parsed, records(render_report(ROWS, "json")), strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}
    assert parsed[2]["verdict"] == "no paper figure: a guest, from elsewhere"  # with its comma


def test_markdown_has_a_table_per_table_with_aligned_columns() -> None:
    lines = render_report(ROWS, "markdown").splitlines()
    assert lines[:2] == ["### Table 1", ""]
    assert lines[2] == (
        "| model | timm name | pixels | params (M) | paper | diff. | MACs (G) | paper | diff. | act. (M) | top-1 (%) "
        "| verdict |"
    )
    assert lines[3] == "| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | :-- |"
    assert lines[4] == (
        "| InceptionNeXt-T | inceptionnext_tiny | 224 | 28.06 | 28 | +0.06 | 4.195 | 4.2 | -0.005 | 12.0 | 82.3 | ok |"
    )
    assert lines[5] == (
        "| Focal-T | focal_tiny | 224 | 28.87 | 29 | -0.13 | 4.800 | 4.9 | -0.100 | 20.0 | 82.2 "
        "| off: 4.80 G MACs, not 4.9 |"
    )
    assert columns(lines[6])[3:9] == ["45.24", "–", "–", "6.925", "–", "–"]
    assert lines[7:10] == ["", "### ADE20K: UperNet", ""]
    assert columns(lines[10])[10:] == ["mIoU (%)", "verdict"]
    assert columns(lines[12]) == [
        *("Swin-B", "swin_base_patch4_window7_224 + UperNet", "512×2048", "121.28", "121", "+0.28"),
        *("1188.37", "1188", "+0.37", "948.5", "49.7", "ok"),
    ]
    assert len(lines) == 13


@pytest.mark.parametrize(
    ("params", "printed", "cells"),
    [
        (28_052_000, "28.0", ["28.052", "28.0", "+0.052"]),
        (4_157_000, "4.2", ["4.157", "4.2", "-0.043"]),
        (86_500_000, "87", ["86.50", "87", "-0.50"]),
        (305_905_640, None, ["305.9", "–", "–"]),
    ],
)
def test_a_count_has_two_digits_more_than_printed_or_else_four(
    params: int, printed: str | None, cells: list[str]
) -> None:
    row = replace(COUNTED, cost=Cost(params, 0, 0), paper=PaperRow("x", "x", params=printed))
    assert columns(render_report([row], "markdown").splitlines()[4])[3:6] == cells


def test_the_table_does_not_wrap_where_it_goes_to_a_file() -> None:
    lines = render_report(ROWS, "table").splitlines()
    assert len(lines) == (2 + 3) + 1 + (2 + 1)
    assert lines[0] == "Table 1"
    assert lines[1].split()[:4] == ["model", "timm", "name", "pixels"]
    assert lines[2].split() == [
        *("InceptionNeXt-T", "inceptionnext_tiny", "224", "28.06", "28", "+0.06"),
        *("4.195", "4.2", "-0.005", "12.0", "82.3", "ok"),
    ]
    assert lines[3].endswith("off: 4.80 G MACs, not 4.9")
    assert "swin_base_patch4_window7_224 + UperNet" in lines[8]
    assert [line for line in lines if line != line.rstrip()] == []


def test_brackets_in_a_verdict_are_not_taken_for_markup() -> None:
    row = replace(COUNTED, verdict="off: [bold]4.2[/bold]")
    assert render_report([row], "table").rstrip().endswith("off: [bold]4.2[/bold]")


def test_single_models_have_neither_headings_nor_a_paper_s_label() -> None:
    lines = render_models([(SINGLE, COUNT)], "markdown").splitlines()
    assert columns(lines[0]) == [
        *("timm name", "pixels", "params (M)", "paper", "diff.", "MACs (G)", "paper", "diff.", "act. (M)"),
        *("top-1 (%)", "verdict"),
    ]
    assert columns(lines[2]) == [
        "some_model",
        "28×56",
        "0.001",
        "–",
        "–",
        "8e-06",
        "–",
        "–",
        "0.0",
        "–",
        SINGLE.verdict,
    ]
    assert len(lines) == 3


def test_tables_have_ratios_if_there_is_a_reference() -> None:
    for with_ratios in (False, True):
        lines = render_models([(SINGLE, COUNT), (HELD, COUNT)], "markdown", with_ratios=with_ratios).splitlines()
        assert columns(lines[0])[11:] == ["params ×", "MACs ×", "of"]
        assert columns(lines[1])[11:] == ["--:", "--:", ":--"]
        assert columns(lines[2])[11:] == ["–", "–", "–"]
        assert columns(lines[3])[11:] == ["1.111", "0.667", "other_model"]


def test_plain_values_have_ratios_only_on_request() -> None:
    pair = [(SINGLE, COUNT), (HELD, COUNT)]
    assert [list(record) for record in records(render_models(pair, "json"))] == [KEYS, KEYS]
    assert render_models(pair, "csv").splitlines()[0] == ",".join(KEYS)
    single, held = records(render_models(pair, "json", with_ratios=True))
    assert list(single) == list(held) == KEYS + RATIOS
    assert [single[key] for key in RATIOS] == [None, None, None]
    assert [held[key] for key in RATIOS] == ["other_model", 1.1111, 0.6667]
    rows = list(csv.DictReader(io.StringIO(render_models(pair, "csv", with_ratios=True))))
    assert [rows[0][key] for key in RATIOS] == ["", "", ""]
    assert [rows[1][key] for key in RATIOS] == ["other_model", "1.1111", "0.6667"]


ALL = {"params": 1000, "params_share": 1.0, "macs": 8000, "macs_share": 1.0, "activations": 300}
STEM = {"params": 100, "params_share": 0.1, "macs": 1000, "macs_share": 0.125, "activations": 100}
BLOCKS = {"params": 800, "params_share": 0.8, "macs": 6000, "macs_share": 0.75, "activations": 200}
BLOCK_0 = {"params": 400, "params_share": 0.4, "macs": 4000, "macs_share": 0.5, "activations": 100}
BLOCK_1 = {"params": 400, "params_share": 0.4, "macs": 2000, "macs_share": 0.25, "activations": 100}
REST = {"params": 100, "params_share": 0.1, "macs": 1000, "macs_share": 0.125, "activations": 0}
DEPTHS = {
    0: {"(all)": ALL},
    1: {"(all)": ALL, "(itself)": REST, "stem": STEM, "blocks": BLOCKS},
    2: {
        **{"(all)": ALL, "(itself)": REST, "stem": STEM},
        **{"blocks": BLOCKS, "blocks.0": BLOCK_0, "blocks.1": BLOCK_1},
    },
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_modules_have_their_shares_and_what_is_outside_their_children(depth: int) -> None:
    [record] = records(render_models([(SINGLE, COUNT)], "json", depth))
    assert list(record) == [*KEYS, "modules"]
    assert record["modules"] == [{"module": name} | part for name, part in DEPTHS[depth].items()]


def test_what_a_modules_children_leave_over_comes_before_them() -> None:
    [record] = records(render_models([(SINGLE, COUNT)], "json", 3))
    names = [part["module"] for part in record["modules"]]
    assert names[4:7] == ["blocks.0", "blocks.0.(itself)", "blocks.0.fc"]
    rest = record["modules"][5]
    assert (rest["params"], rest["macs"], rest["activations"]) == (100, 1500, 0)


def test_modules_in_csv_have_one_line_each_under_their_model() -> None:
    text = render_models([(SINGLE, COUNT), (HELD, COUNT)], "csv", 1)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["model", "module", "params", "params_share", "macs", "macs_share", "activations"]
    assert [row["module"] for row in rows] == ["(all)", "(itself)", "stem", "blocks"] * 2
    assert rows[3] == {"model": "some_model", "module": "blocks"} | {key: str(v) for key, v in BLOCKS.items()}


def test_modules_in_markdown_have_a_separate_table() -> None:
    lines = render_models([(SINGLE, COUNT)], "markdown", 1).splitlines()
    assert lines[3:6] == ["", "### some_model", ""]
    assert lines[6:8] == [
        "| module | params (M) | share | MACs (G) | share | act. (M) |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    assert lines[8:] == [
        "| (all) | 0.001 | 100.0% | 0.0000 | 100.0% | 0.00 |",
        "| (itself) | 0.000 | 10.0% | 0.0000 | 12.5% | 0.00 |",
        "| stem | 0.000 | 10.0% | 0.0000 | 12.5% | 0.00 |",
        "| blocks | 0.001 | 80.0% | 0.0000 | 75.0% | 0.00 |",
    ]


def test_modules_in_a_terminal_table_are_indented_by_depth() -> None:
    lines = render_models([(SINGLE, COUNT)], "table", 2).splitlines()
    start = lines.index("some_model")
    names = [line[:10].rstrip() for line in lines[start + 2 :]]
    assert names == ["(all)", "  (itself)", "  stem", "  blocks", "    0", "    1"]


@pytest.mark.parametrize("style", ["json", "csv", "table", "markdown"])
def test_a_model_without_parameters_has_shares_of_nothing(style: Format) -> None:
    empty = Count(Cost(0, 5, 0), {"": Cost(0, 5, 0)}, {})
    text = render_models([(replace(SINGLE, cost=empty.total), empty)], style, 0)
    shares = {"json": '"params_share": 0.0', "csv": "(all),0,0.0,5,1.0,0"}
    assert shares.get(style, "0.0%") in text
