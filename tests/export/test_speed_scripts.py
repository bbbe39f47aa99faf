"""The scripts that measure exported files: a cold start, the time by layer, and all forms in turn."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inceptionnext_lit.reports.benchmark import measure as measuring
from inceptionnext_lit.reports.benchmark.measurement import Measurement
from tests.forked import forking
from tests.recipes import REPO


def functions(script: str) -> SimpleNamespace:
    """Return what a script defines."""
    return SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / script)))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a script in this process, and return the lines that it prints."""

    def run(script: str, *words: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        runpy.run_path(str(REPO / "scripts" / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_a_cold_start_without_torch(place: Path, photos: list[str]) -> None:
    script = functions("cold_start.py")
    found = script.start("onnx", [str(place / "best.onnx")], Path(photos[0]))
    assert found["torch"] is False
    assert found["label"] in ("ant", "bee", "cat")
    assert 0 < found["all three"] < found["process"]
    assert found["all three"] == found["import"] + found["load"] + found["first image"]
    assert 20 < found["peak MiB"] < 400
    other = dict.fromkeys(script.COLUMNS, 2.0) | {"torch": True}
    lines = script.table({"onnx": [dict.fromkeys(script.COLUMNS, 1.0) | {"torch": False}], "checkpoint": [other] * 3})
    assert lines[2:] == [
        "| onnx | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1 | no |",
        "| checkpoint | 2.00 | 2.00 | 2.00 | 2.00 | 2.00 | 2 | yes |",
    ]


@pytest.mark.slow
def test_every_cold_start(place: Path, run: Callable[..., list[str]]) -> None:
    lines = run("cold_start.py", place / "best.ckpt", "--rounds", 1)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    forms = ["checkpoint", "safetensors", "onnx", "openvino", "pt2", "aoti"]
    assert [(row[0], row[-1]) for row in rows] == [(form, "no" if form in forms[2:4] else "yes") for form in forms]
    assert len(re.findall(r"label: (\w+)$", "\n".join(lines), re.MULTILINE)) == 1  # the same one for all


def profile(lines: list[str]) -> tuple[float, dict[str, list[str]]]:
    """Return the milliseconds and the rows by the first cell."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    [total] = re.findall(r"^([\d.]+) ms per batch$", "\n".join(lines), re.MULTILINE)
    return float(total), {row[0]: row[1:] for row in rows}


def test_the_time_by_layer(place: Path, run: Callable[..., list[str]]) -> None:
    words = ["--batch_size", 2, "--threads", 1, "--steps", 3]
    total, rows = profile(run("layer_profile.py", place / "best.onnx", *words, "--layers", 1))
    kinds = {name: (int(cells[0]), float(cells[1])) for name, cells in list(rows.items())[1:-2]}
    assert {"FusedConv", "Conv"} & kinds.keys()
    assert sum(ms for _, ms in kinds.values()) == pytest.approx(total, abs=0.1)
    with pytest.raises(SystemExit):
        run("layer_profile.py", place / "best.ckpt")


@pytest.mark.slow
def test_the_time_by_layer_in_openvino(
    place: Path, tmp_path: Path, run: Callable[..., list[str]], cli: Callable[..., None]
) -> None:
    cli("export", place / "best.ckpt", "--format", "openvino", "--output", "best.xml")
    total, rows = profile(run("layer_profile.py", "best.xml", "--threads", 1, "--steps", 3))
    assert total > 0
    assert any(name.startswith("Convolution (") for name in rows)


def test_tables_of_all_forms() -> None:
    script = functions("cpu_speed.py")
    models, columns = ["inceptionnext_tiny", "convnext_tiny"], ["eager", "deploy", "openvino-int8"]
    options = SimpleNamespace(image_size=224, threads=2)
    cases = script.make_cases(models, columns, options)
    assert cases["inceptionnext_tiny", "eager"].model == "inception_next_tiny"  # timm's
    assert cases["inceptionnext_tiny", "openvino-int8"].model == "inceptionnext_tiny"
    rates = [[10.0, 20.0, 40.0], [20.0, 20.0, 40.0], [60.0, 80.0, 80.0], [5.0] * 3, [10.0] * 3, [20.0] * 3]
    found = {
        key: Measurement(case, None, "cpu", own, own, [400.0] * 3, 1.0, None, 8.0)
        for (key, case), own in zip(cases.items(), rates, strict=True)
    }
    assert script.speed_table(found, models, columns)[2:] == [
        "| `inceptionnext_tiny` | 20.0 | 20.0 | 80.0 |",
        "| ratio | 1 | 1.00 (1.00–2.00) | 4.00 (2.00–6.00) |",
        "| `convnext_tiny` | 5.0 | 10.0 | 20.0 |",
        "| ratio | 1 | 2.00 (2.00–2.00) | 4.00 (4.00–4.00) |",
    ]
    assert script.bound_table(found, models, columns)[-1] == "| openvino-int8 | 400 | 50, 160% | 50, 40% |"
    assert script.goals(found) == [
        "- T int8 over timm's eager fp32: 4.00 (2.00–6.00)",
        "- T int8 over ConvNeXt-T's: 4.00 (3.00–4.00)",
    ]
    assert script.gains(found, models, columns) == ["- openvino-int8 over deploy: 2.00 to 3.00"]


@pytest.mark.slow
def test_all_forms_in_turn(monkeypatch: pytest.MonkeyPatch, run: Callable[..., list[str]]) -> None:
    monkeypatch.setattr(measuring, "multiprocessing", SimpleNamespace(get_context=lambda _: forking()))
    words: list[Any] = ["--models", "inceptionnext_iso_micro", "--columns", "deploy,onnx", "--batch_sizes", "2,1"]
    words += ["--image_size", 28, "--rounds", 2, "--seconds", 0.01, "--threads", 1]
    lines = run("cpu_speed.py", *words)
    assert lines[0] == "28 px, 1 threads, medians of 2 rounds in turn"
    assert [line for line in lines if line.startswith(("Images/s", "Batch"))] == [
        "Images/s, batch 2",
        "Images/s, batch 1",
        "Batch 1 over batch 2, onnx",
    ]
    assert (
        len([line for line in lines if re.fullmatch(r"\| `inceptionnext_iso_micro` \| [\d.]+ \| [\d.]+ \|", line)]) == 2
    )
    assert len([line for line in lines if re.fullmatch(r"- onnx over deploy: ([\d.]+) to \1", line)]) == 2
    assert re.fullmatch(r"- `inceptionnext_iso_micro`: [\d.]+ \([\d.]+–[\d.]+\)", lines[-1])
