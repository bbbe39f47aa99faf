import html
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.analysis import Analysis, analyze
from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.comparison import compare
from inceptionnext_lit.reports.evaluation.page import Compared, render_page
from inceptionnext_lit.reports.evaluation.record import Context, as_plain
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from inceptionnext_lit.reports.evaluation.writing import check_folder, write_report
from tests.reports.evaluation.tables import multi_label, single_label

FEW = Bootstrap(resamples=100)
CURVES = {"val/acc1": [(0.0, 0.5), (1.0, 0.7)], "train/loss": [(0.0, 2.0), (1.0, 1.0)], "val/loss": [(0.0, 1.9)]}


def context(**changes: object) -> Context:
    made = Context(("10 images of 2 classes in data.",), "data", "val", "best.ckpt", "python cli.py evaluate best.ckpt")
    return replace(made, curves=CURVES, **changes)


def on_disk(table: PredictionTable, folder: Path) -> PredictionTable:
    """The same predictions for pictures that exist."""
    for number, path in enumerate(table.paths):
        Image.new("RGB", (40, 30), (number % 256, 90, 120)).save(folder / path)
    return replace(table, paths=[str(folder / path) for path in table.paths])


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)">', page)


def test_the_sections_of_one_label(tmp_path: Path) -> None:
    table = on_disk(single_label(60, 3), tmp_path)
    table = replace(table, splits=["val"] * 60, columns={"camera": ["a", "b"] * 30})
    other = single_label(60, 3, strength=3)
    analysis, second = analyze({"raw": other, "ema": table}, FEW), analyze({"": replace(other, paths=table.paths)}, FEW)
    others = [Compared("other.ckpt", second, compare(table, second.table, FEW))]
    page = render_page(analysis, context(cost={"parameters": 5}, versions={"torch": "2"}), tmp_path, others=others)
    assert sections(page) == [
        *("data", "metrics", "comparison", "curves", "classes", "confusion", "calibration", "coverage", "mistakes"),
        *("label-errors", "slices", "cost"),
    ]
    assert sorted(set(re.findall(r'<a href="#([\w-]+)"', page))) == sorted(sections(page))
    for text in ("averaged weights", "raw weights", "predict uses the averaged weights", "camera: a", "other.ckpt"):
        assert text in page, text
    assert f"{analysis.summary.metrics['acc1'].value:.4f} (" in page
    # nothing is loaded from elsewhere
    assert not re.search(r'(src|href)="(?!data:|#|/)', page)
    assert not re.search(r"https?://|@import|url\(", page.replace("http://www.w3.org/2000/svg", ""))
    assert all(alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))


def test_the_sections_of_several_labels(tmp_path: Path) -> None:
    page = render_page(analyze({"": multi_label(80, 4)}, FEW), context(), tmp_path)
    assert sections(page) == ["data", "metrics", "curves", "classes", "labels", "calibration", "mistakes", "cost"]
    assert "mAP" in page
    assert page.count("no picture") > 10


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    table = replace(single_label(30, 3), class_names=[evil, "b", "c\udcff"])
    page = render_page(analyze({"": table}, FEW), context(source=evil, model={"name": evil}), tmp_path)
    assert page.count("<script>") == 1
    assert "\x1b" not in page
    page.encode("utf-8")


@pytest.mark.parametrize("images", [1, 2])
def test_very_few_images(tmp_path: Path, images: int) -> None:
    table = single_label(images, 2)
    analysis = analyze({"": table}, FEW)
    assert "fewer than two images" in render_page(analysis, context(), tmp_path)
    json.dumps(as_plain(analysis, context()), allow_nan=False)
    several = analyze({"": multi_label(images, 3)}, FEW)
    render_page(several, context(), tmp_path)
    json.dumps(as_plain(several, context()), allow_nan=False)


def test_everything_right_and_everything_wrong(tmp_path: Path) -> None:
    for strength in (50, -50):
        analysis = analyze({"": single_label(40, 3, strength=strength)}, FEW)
        page = render_page(analysis, context(), tmp_path)
        assert f"Wrong predictions: {0 if strength > 0 else 40} of 40" in page
        json.dumps(as_plain(analysis, context()), allow_nan=False)


def test_the_record_has_the_numbers(tmp_path: Path) -> None:
    table = replace(single_label(90, 3), splits=["val"] * 90)
    analysis = analyze({"raw": table, "ema": table}, FEW)
    record = as_plain(analysis, context(unreadable=[("x.png", "damaged")]))
    assert record["schema"] == 1
    assert record["data"]["images"] == 90
    assert record["data"]["unreadable"] == [{"path": "x.png", "reason": "damaged"}]
    assert record["metrics"]["acc1"]["value"] == (table.predicted == table.labels).mean()
    assert set(record["weights"]) == {"raw", "ema"}
    assert record["predict_uses"] == "ema"
    assert sum(map(sum, record["confusion"]["matrix"])) == 90
    assert [row["f1"] for row in record["per_class"]] == sorted(row["f1"] for row in record["per_class"])
    assert len(record["calibration"]["bins"]) == 15
    assert record["calibration"]["temperature_scaling"]["temperature"] > 0
    assert set(record["coverage"]["thresholds"]) == {"95%", "99%"}
    assert record["mistakes"][0]["true_label"] != record["mistakes"][0]["predicted_label"]
    assert record["command"] == "python cli.py evaluate best.ckpt"


def test_a_folder_with_a_report_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    check_folder(folder, overwrite=False)
    analysis = analyze({"": single_label(30, 3)}, FEW)
    written = write_report(folder, [analysis], as_plain(analysis, context()), "<p>page", ".csv")
    assert [path.name for path in written] == ["predictions.csv", "confusion.csv", "report.json", "index.html"]
    assert json.loads((folder / "report.json").read_text())["data"]["images"] == 30
    lines = (folder / "confusion.csv").read_text().splitlines()
    assert lines[0] == "true class,class 0,class 1,class 2"
    assert len(lines) == 4
    with pytest.raises(UserError, match=r"report already has a report; add --overwrite"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)
    with pytest.raises(UserError, match="a file; give a folder"):
        check_folder(folder / "predictions.csv", overwrite=False)
    with pytest.raises(UserError, match=r"give a folder, in which index\.html"):
        check_folder(tmp_path / "report.html", overwrite=False)


@pytest.mark.slow
def test_fifty_thousand_images_of_a_thousand_classes(tmp_path: Path) -> None:
    table = single_label(50_000, 1000, strength=3)
    start = time.process_time()
    analysis = analyze({"": table}, Bootstrap())
    record = as_plain(analysis, context())
    page = render_page(analysis, context(), tmp_path)
    write_report(tmp_path / "report", [analysis], record, page, ".parquet")
    print(f"{time.process_time() - start:.0f} s of CPU")
    assert len(page.encode()) < 5e6
    assert analysis.summary.auroc_intervals == "linearized"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """
<script>
window.errors = [];
window.addEventListener("error", event => window.errors.push(event.message));
</script>
"""
CHECK = """
<script>
addEventListener("load", async () => {
  const found = {errors: window.errors, width: innerWidth, needed: document.documentElement.scrollWidth};
  found.sections = Array.from(document.querySelectorAll("section"), section => section.id);
  const table = document.querySelector("#classes table");
  const column = () => Array.from(table.tBodies[0].rows, row => row.cells[2].textContent);
  const button = table.tHead.rows[0].cells[2].querySelector("button");
  button.click(); found.up = column(); button.click(); found.down = column();
  if (window.axe) found.axe = (await axe.run()).violations.map(v => [v.id, v.impact, v.nodes[0].html]);
  const result = document.createElement("pre");
  result.id = "found"; result.textContent = JSON.stringify(found); document.body.append(result);
});
</script>
"""


def browse(page: str, folder: Path, width: int) -> dict:
    """Open a page in Chromium, and return what a script in it has found."""
    axe = os.environ.get("AXE_CORE")  # axe.min.js of the npm package axe-core
    script = f"<script>{Path(axe).read_text(encoding='utf-8')}</script>" if axe else ""
    checked = page.replace("<head>", f"<head>{PROBE}").replace("</body>", f"{script}{CHECK}</body>")
    (folder / "checked.html").write_text(checked, encoding="utf-8")
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    words += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}"]
    words += [f"--window-size={width},900", "--virtual-time-budget=60000", "--dump-dom"]
    run = subprocess.run([*words, (folder / "checked.html").as_uri()], capture_output=True, text=True, check=True)
    [found] = re.findall(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    return json.loads(html.unescape(found))


def analysis_of(classes: int, tmp_path: Path) -> Analysis:
    table = on_disk(single_label(max(60, 3 * classes), classes, strength=3), tmp_path)
    return analyze({"": table}, FEW)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("classes", [2, 10, 200])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(tmp_path: Path, classes: int, width: int) -> None:
    page = render_page(analysis_of(classes, tmp_path), context(), tmp_path)
    found = browse(page, tmp_path, width)
    assert found["errors"] == []
    assert found["needed"] <= found["width"]
    assert found["sections"] == sections(page)
    numbers = [[float(text) for text in found[key] if text != "–"] for key in ("up", "down")]
    assert numbers[0] == sorted(numbers[0])
    assert numbers[1] == sorted(numbers[1], reverse=True)
    assert len(set(numbers[0])) > 1
    if "AXE_CORE" in os.environ:
        assert [violation for violation in found["axe"] if violation[1] in ("serious", "critical")] == []


def test_values_of_probabilities_are_not_changed(tmp_path: Path) -> None:
    table = single_label(20, 3)
    before = table.logits.copy()
    render_page(analyze({"": table}, FEW), context(), tmp_path)
    assert np.array_equal(table.logits, before)
