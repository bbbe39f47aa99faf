"""``python cli.py serve`` as people start it, with a trained checkpoint."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_segmenter
from tests.browser import CHROMIUM, Page, browser
from tests.processes import running, wait_until
from tests.recipes import REPO
from tests.serve.serving import half_a_picture
from tests.small_segmenter import PALETTE, save_segmenter

Shell = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def serving(model: Path, folder: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the program, and yield its address."""
    log = folder / "log"
    command = [sys.executable, REPO / "cli.py", "serve", model, "--port", "0", *words]
    with log.open("w") as file, running(command, cwd=folder, stdout=file, stderr=file) as process:
        found = wait_until(
            lambda: process.poll() is not None or re.search(r"at (http://127\.0\.0\.1:\d+)/", log.read_text()),
            seconds=900,
        )
        assert isinstance(found, re.Match), log.read_text()
        yield found[1], process


def post(address: str, image: Path) -> dict[str, Any]:
    request = urllib.request.Request(f"{address}/predict", image.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)[0]


@pytest.fixture(scope="module")
def images(sample: Path) -> list[Path]:
    """An image of each class."""
    return [sorted(folder.iterdir())[5] for folder in sorted((sample / "val").iterdir())]


@pytest.fixture
def labels(trained: Path, images: list[Path], shell: Shell, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What ``predict`` says of the images."""
    done = shell("predict", *images, "--ckpt_path", trained / "checkpoints/best.ckpt", "--output", "labels.json")
    assert done.returncode == 0, done.stderr
    return {Path(row["path"]).name: row for row in json.loads((tmp_path / "labels.json").read_text())}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_rows_are_those_of_predict_and_sigterm_finishes(
    trained: Path, images: list[Path], labels: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with serving(trained / "checkpoints/best.ckpt", tmp_path) as (address, process):
        rows = [post(address, image) for image in images]
        for image, row in zip(images, rows, strict=True):
            expected = labels[image.name]
            assert row["label"] == expected["label"]
            assert row["top5"] == pytest.approx(expected["top5"], abs=2e-6)
            assert list(row) == list(expected)
        files = [("i", (image.name, image.read_bytes())) for image in images]
        form = httpx.post(f"{address}/predict", files=files, timeout=300).json()
        assert [row["path"] for row in form] == [image.name for image in images]
        assert [row["label"] for row in form] == [row["label"] for row in rows]
        [worker] = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not worker.is_running()
        left = sorted(path.name for path in tmp_path.iterdir())
        assert left == ["labels.json", "log"]


@pytest.mark.slow
def test_ctrl_c_ends_it_and_a_killed_model_comes_back(trained: Path, images: list[Path], tmp_path: Path) -> None:
    with serving(trained / "checkpoints/best.ckpt", tmp_path) as (address, process):
        before = post(address, images[0])
        [worker] = psutil.Process(process.pid).children()
        worker.kill()
        wait_until(lambda: httpx.get(f"{address}/health").json()["status"] == "restarting")
        assert post(address, images[0]) == before
        assert httpx.get(f"{address}/health").json()["restarts"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert (
        "error: The model's process was ended by signal 9 (SIGKILL); 0 batches had no answer ("
        in (tmp_path / "log").read_text()
    )


@pytest.mark.slow
def test_the_model_s_process_ends_with_the_server(trained: Path, tmp_path: Path) -> None:
    with serving(trained / "checkpoints/best.ckpt", tmp_path) as (_, process):
        [worker] = psutil.Process(process.pid).children()
        process.kill()
        process.wait(10)
        psutil.wait_procs([worker], timeout=20)
        assert not worker.is_running()


@pytest.mark.slow
def test_models_that_cannot_be_served(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    torch.save({"stem.weight": torch.zeros(1)}, tmp_path / "w.pth")
    for model, message in (
        ("missing.ckpt", "missing.ckpt"),
        ("text.ckpt", "text.ckpt"),
        ("inceptionnext_tinny", "did you mean inceptionnext_tiny"),
        ("w.pth", "export it with its model first: export --model.name NAME --model.pretrained w.pth --format onnx"),
    ):
        done = shell("serve", model, "--port", 0)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def page_of_server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Page]]:
    """A server, and a browser."""
    folder = tmp_path_factory.mktemp("page")
    words = ("--unsure_below", "0.99999")
    with serving(trained / "checkpoints/best.ckpt", folder, *words) as (address, _), browser(folder) as page:
        yield address, page


def labels_on(page: Page, count: int) -> list[list[str]]:
    """Wait until a number of images have their answer; return names and answers."""
    page.wait(f"byId('results').children.length === {count} && done === sent")
    rows = "[...byId('results').children]"
    return page.run(f"{rows}.map(c => [c.querySelector('h2').textContent, c.querySelector('.answer').textContent])")


def check_accessibility(page: Page) -> None:
    if axe := os.environ.get("AXE_CORE"):  # axe.min.js of the npm package axe-core
        page.run(Path(axe).read_text(encoding="utf-8") + ";1")
        violations = page.run("axe.run()")["violations"]
        assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in violations] == []


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_dropped_images_get_the_labels_of_predict(
    page_of_server: tuple[str, Page],
    images: list[Path],
    labels: dict[str, dict[str, Any]],
    tmp_path: Path,
    width: int,
    dark: bool,
) -> None:
    address, page = page_of_server
    page.show(f"{address}/", width, dark=dark)
    page.run("ready")
    (tmp_path / "half.png").write_bytes(half_a_picture())
    Image.new("L", (40, 30)).save(tmp_path / "no preview.tif")
    page.drop(*images, tmp_path / "half.png", tmp_path / "no preview.tif")
    *found, half, tiff = labels_on(page, 12)
    for name, answer in found:
        assert answer == f"{labels[name]['label']}, {100 * labels[name]['probability']:.1f} %"
    assert half == ["half.png", "The image cannot be read: image file is truncated."]
    assert tiff[1].split(", ")[0] in {row["label"] for row in labels.values()}
    assert page.run("byId('results').children[11].querySelector('.picture').textContent") == "no preview"
    assert page.run("byId('status').textContent") == "12 of 12 images done."
    bars = page.run("[...byId('results').children[0].querySelectorAll('.fill')].map(b => b.style.width)")
    best = next(iter(labels[images[0].name]["top5"].values()))
    assert float(bars[0].rstrip("%")) == pytest.approx(100 * best, abs=0.01)
    assert len(bars) == 5
    assert page.run("document.querySelectorAll('.flag:not([hidden])').length") >= 10
    page.run("byId('limit').value = 1; byId('limit').dispatchEvent(new Event('input'))")
    assert page.run("document.querySelectorAll('.flag:not([hidden])').length") == 0
    page.run("document.querySelector('.explain').click()")
    page.wait("document.querySelector('.map img')?.naturalWidth === 224")
    assert page.run("document.querySelector('.map img').alt").startswith("Heat map: what speaks for ")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width
    check_accessibility(page)
    assert {url.partition("blob:")[2] or url for url in page.requested if not url.startswith(("blob:", "data:"))} <= {
        url for url in page.requested if url.startswith(f"{address}/")
    }
    assert all("422" in error for error in page.errors)  # the browser's own line about the broken image


@pytest.mark.slow
@needs_chromium
def test_the_page_with_the_keyboard_and_by_pasting(
    page_of_server: tuple[str, Page], images: list[Path], labels: dict[str, dict[str, Any]]
) -> None:
    address, page = page_of_server
    page.show(f"{address}/", 1280)
    page.run("ready")
    page.press("Tab")
    assert page.run("document.activeElement.id") == "files"
    assert page.run("getComputedStyle(document.querySelector('#files + label')).outlineStyle") == "solid"
    node = page.call("Runtime.evaluate", expression="byId('files')")["result"]["objectId"]
    page.call("DOM.setFileInputFiles", files=[str(images[0])], objectId=node)
    assert labels_on(page, 1) == [[images[0].name, page.run("byId('status').textContent")]]
    for expected in ("limit", "clear", ""):
        page.press("Tab")
        assert page.run("document.activeElement.id") == expected
    assert page.run("document.activeElement.textContent") == "Heat map"
    page.press("Enter")
    page.wait("document.querySelector('.map img')")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.press(" ")
    assert page.run("document.querySelector('.map').hidden") is True
    page.run(
        """fetch(URL.createObjectURL(byId('results').children[0].file)).catch(() => 0);
        (() => {
          const data = new DataTransfer();
          data.items.add(byId('results').children[0].file);
          document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
        })()"""
    )
    assert [answer.split(", ")[0] for _, answer in labels_on(page, 2)] == [labels[images[0].name]["label"]] * 2
    page.run("byId('clear').click()")
    assert page.run("[byId('results').children.length, byId('status').textContent, document.activeElement.id]") == [
        0, "Removed.", "files",
    ]  # fmt: skip


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_for_programs(page_of_server: tuple[str, Page], width: int) -> None:
    address, page = page_of_server
    page.show(f"{address}/docs", width)
    page.run("ready")
    headings = page.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert headings[:5] == ["POST /predict", "POST /explain", "GET /health", "GET /metadata", "GET /metrics"]
    assert f"{address}/predict" in page.run("document.querySelector('pre').textContent")
    assert page.run("document.documentElement.scrollWidth") <= width
    check_accessibility(page)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_shows_masks(tmp_path: Path, width: int) -> None:
    save_segmenter(tmp_path / "s.ckpt")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    mask = load_segmenter(tmp_path / "s.ckpt").predict(pixels)[0].mask
    with serving(tmp_path / "s.ckpt", tmp_path) as (address, _), browser(tmp_path) as page:
        page.show(f"{address}/", width)
        page.run("ready")
        page.drop(tmp_path / "x.png")
        page.wait("document.querySelector('canvas.mask')")
        assert page.run("document.querySelector('h1').textContent") == "Segment images"
        drawn = page.run(
            """(() => {
              const canvas = document.querySelector("canvas.mask");
              const {width, height} = canvas;
              return [width, height, ...canvas.getContext("2d").getImageData(0, 0, width, height).data];
            })()"""
        )
        colors = np.array(drawn[2:]).reshape(40, 60, 4)
        assert drawn[:2] == [60, 40]
        assert np.array_equal(colors[..., 3] == 0, mask == 0)
        assert np.array_equal(colors[mask > 0][:, :3], np.array(PALETTE)[mask[mask > 0]])
        page.run("document.querySelector('.toggle').click()")
        assert page.run("document.querySelector('canvas.mask').hidden") is True
        assert page.run("document.documentElement.scrollWidth") <= width
        check_accessibility(page)
        assert page.errors == []
