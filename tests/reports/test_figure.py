"""The plot of accuracy against cost, for hand-made rows."""

from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.cost import Cost
from inceptionnext_lit.reports.budget.paper import TABLES, PaperRow
from inceptionnext_lit.reports.budget.plot import by_family, check_plot_path, draw_tradeoff, points_of
from inceptionnext_lit.reports.budget.report import BudgetRow

MAIN = TABLES[0].name


def line(label: str, macs: float, printed: str | None, top1: float | None, train: int | None) -> BudgetRow:
    paper = PaperRow(label, "any", macs=printed, top1=top1, train=train)
    return BudgetRow(label, "any", (224, 224), Cost(1, round(macs * 1e9), 1), paper, MAIN, "ok")


ROWS = [
    line("InceptionNeXt-S", 8.36, "8.4", 83.5, 521),
    line("InceptionNeXt-T", 4.19, "4.2", 82.3, 901),
    line("InceptionNeXt-A", 0.50, "0.51", 75.3, 2661),
    line("ConvNeXt-T", 4.47, "4.5", 82.1, 575),
    line("Focal-T", 4.87, "4.9", 82.2, None),
    line("FocalNet-T", 4.49, "4.5", 82.3, None),
    line("RSB-ResNet-50", 4.11, "4.1", 79.8, 969),
    line("ResNet-50", 4.11, "4.1", 78.4, None),
    line("PVTv2-B3", 6.9, None, None, None),
    line("MaxViT-T", 5.6, "5.6", 83.6, 100),
]


def macs(row: BudgetRow) -> float:
    return row.cost.macs / 1e9


def train(row: BudgetRow) -> float | None:
    return row.paper.train if row.paper else None


def test_rows_of_table_1_at_224_pixels_are_sorted_into_families() -> None:
    larger = BudgetRow("ConvNeXt-B", "any", (384, 384), None, ROWS[3].paper, MAIN, "ok")
    elsewhere = BudgetRow("ConvNeXt-T", "any", (224, 224), None, ROWS[3].paper, TABLES[1].name, "ok")
    families = by_family([*ROWS, larger, elsewhere])
    assert {family: [row.label for row in rows] for family, rows in families.items() if rows} == {
        "InceptionNeXt": ["InceptionNeXt-S", "InceptionNeXt-T"],  # the A form is left out
        "ConvNeXt": ["ConvNeXt-T"],
        "FocalNet": ["FocalNet-T"],
        "Focal": ["Focal-T"],
        "RSB-ResNet": ["RSB-ResNet-50"],
        "ResNet": ["ResNet-50"],
        "PVT": ["PVTv2-B3"],
    }
    assert next(iter(families)) == "InceptionNeXt"


def test_every_row_of_table_1_has_a_family_except_384_pixels_and_the_smallest() -> None:
    rows = [BudgetRow(p.label, p.model, p.image_size, Cost(1, 1, 1), p, MAIN, "ok") for p in TABLES[0].rows]
    drawn = [row.label for members in by_family(rows).values() for row in members]
    small = [p.label for p in TABLES[0].rows if p.image_size == (224, 224)]
    assert sorted(drawn) == sorted(set(small) - {"InceptionNeXt-A"})
    assert len(drawn) == 27


def test_points_run_from_left_to_right_and_skip_rows_without_a_position() -> None:
    assert points_of(ROWS[:2], macs) == [(4.19, 82.3, "T"), (8.36, 83.5, "S")]
    assert points_of(ROWS[:2], train) == [(521, 83.5, "S"), (901, 82.3, "T")]
    assert points_of(ROWS[4:], train) == [(100, 83.6, "T"), (969, 79.8, "50")]
    assert points_of([ROWS[8]], macs) == []  # no accuracy
    assert points_of([BudgetRow("x", "any", (224, 224), Cost(1, 1, 1), None, MAIN, "ok")], macs) == []


@pytest.mark.slow
def test_the_plots_are_written(tmp_path: Path) -> None:
    for name, start in (("a.png", b"\x89PNG\r\n\x1a\n"), ("b.svg", b"<?xml"), ("c.PNG", b"\x89PNG\r\n\x1a\n")):
        check_plot_path(tmp_path / name)
        draw_tradeoff(ROWS, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    text = (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    for words in ("InceptionNeXt (this project)", "MACs (G)", "RSB-ResNet", "top-1 (%)"):
        assert words in text
    assert "MaxViT" not in text


def test_the_panels_have_macs_training_and_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[list[tuple[float, float, str]]]] = {}
    monkeypatch.setattr(
        "inceptionnext_lit.reports.budget.plot._draw_family",
        lambda axis, family, points: drawn.setdefault(family, []).append(points),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
        patch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
        draw_tradeoff(ROWS, Path("x.png"))
    assert drawn["Focal"] == [[(4.87, 82.2, "T")], [], []]
    assert drawn["InceptionNeXt"] == [
        [(4.19, 82.3, "T"), (8.36, 83.5, "S")],
        [(521, 83.5, "S"), (901, 82.3, "T")],
        [],
    ]


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.svg.gz"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_plot_path(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} ends in neither .png nor .svg; give --plot a file name that does."


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_plot_path(tmp_path / "no" / "x.svg")
    assert str(caught.value) == f"No folder {tmp_path / 'no'}; create it, or give another file with --plot."


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.mkdir()
    with pytest.raises(UserError) as caught:
        draw_tradeoff(ROWS, path)
    assert str(caught.value) == f"{path} cannot be written: Is a directory."


def test_a_missing_matplotlib_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        check_plot_path(tmp_path / "x.png")
    assert str(caught.value) == "--plot needs matplotlib; install it with pip install 'inceptionnext-lit[plots]'."
