"""Figures of heat maps: what stands above the images, and images of unusual shapes and names."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from inceptionnext_lit.reports.explain.figure import Row, as_thumbnail, draw_grid, fitted
from inceptionnext_lit.reports.explain.overlay import overlay


def test_overlay_keeps_what_is_cold() -> None:
    picture = np.random.default_rng(0).random((4, 4, 3), dtype=np.float32)
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 0] = 1
    drawn = overlay(picture, heat, 0.5)
    gray = picture.mean(axis=2)
    assert drawn[1:, :, 0] == pytest.approx(gray[1:], abs=1e-6)
    hottest = np.array([252, 255, 164]) / 255  # the last color of inferno
    assert drawn[0, 0] == pytest.approx(0.5 * gray[0, 0] + 0.5 * hottest, abs=1e-5)


def test_an_overlay_with_an_alpha_of_one_is_opaque() -> None:
    generator = np.random.default_rng(0)
    picture, heat = generator.random((4, 4, 3), dtype=np.float32), generator.random((4, 4), dtype=np.float32)
    heat[0, 0] = 0
    assert overlay(picture, heat, 1) == pytest.approx(
        colormaps["inferno"](heat)[:, :, :3], abs=4 / 255
    )  # up to a step of its 256 colors
    gray = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    assert overlay(picture, heat, 0) == pytest.approx(gray, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "shape", "was_cut"),
    [
        ((3000, 10), (10, 30), True),
        ((2, 5000), (6, 2), True),
        ((900, 300), (107, 320), False),
        ((301, 100), (100, 300), True),
        ((40, 40), (40, 40), False),
    ],
)
def test_no_image_is_a_line(size: tuple[int, int], shape: tuple[int, int], was_cut: bool) -> None:
    image = Image.new("RGB", size)
    width, height = size
    image.putpixel((width // 2, height // 2), (255, 0, 0))
    picture, cut = as_thumbnail(image)
    assert picture.shape == (*shape, 3)
    assert cut == was_cut
    assert picture[..., 0].max() > 0  # the central pixel


def test_texts_stay_different_when_they_are_shortened() -> None:
    long = f"runs/{'a' * 40}/version_{{}}/{'b' * 40}.ckpt"
    assert fitted(["short", long.format(0)]) == [["short"], [f"runs/{'a' * 8}…{'b' * 9}.ckpt"]]
    assert fitted(["n02280649 (cabbage butterfly) 0.001"]) == [["n02280649 (cabbage", "butterfly) 0.001"]]
    first, second = fitted([long.format(0), long.format(1)])
    assert "".join(first) == long.format(0)
    assert "".join(second) == long.format(1)
    assert max(map(len, first)) == 28
    assert fitted(["a\nb", "a\nb"]) == [["a", "b"]] * 2


def test_names_in_any_script(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), dtype=np.float32)
    rows = [Row("猫😀\udce9\x1b.png", picture, [picture], ["قطة 0.996\nno evidence"])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in ("png", "svg"):
            draw_grid(rows, ["模型\nblocks.1"], tmp_path / f"grid.{suffix}", "gradcam for the class 犬")
    svg = (tmp_path / "grid.svg").read_text()
    texts = [
        ">猫😀\\udce9\\x1b.png</",
        ">قطة 0.996</",
        ">no evidence</",
        ">模型</",
        ">blocks.1</",
        ">gradcam for the class 犬</",
    ]
    assert [text for text in texts if text not in svg] == []
    assert svg.count("<image ") == 2


def test_every_panel_has_the_same_size(tmp_path: Path) -> None:
    wide, square = np.zeros((20, 60, 3), dtype=np.float32), np.zeros((32, 32, 3), dtype=np.float32)
    rows = [
        Row("one.png\n(central part)", wide, [square], ["a 0.500\nfor b 0.250\nno evidence"]),
        Row("two.png", square, [square], ["a 0.500"]),
    ]
    draw_grid(rows, ["best.ckpt\nblocks.1"], tmp_path / "grid.svg", "gradcam for the predicted class")
    svg = (tmp_path / "grid.svg").read_text()
    found = re.findall(r'<image [^>]*?width="([\d.]+)" height="([\d.]+)"', svg)
    sizes = [(round(float(width)), round(float(height))) for width, height in found]
    side = 115  # points: 1.6 inches
    assert sizes[0][0] == pytest.approx(3 * sizes[0][1], abs=3)
    assert np.array(sizes[1:]) == pytest.approx(np.full((3, 2), side), abs=1)


def test_no_text_leaves_the_figure(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 3), dtype=np.float32)
    longest = "W" * 80
    rows = [Row(longest, picture, [picture] * 2, ["a 0.500\nfor b 0.250\nno evidence", longest])] * 2
    draw_grid(rows, [f"{longest}\n(random weights)\nblocks.1", "short"], tmp_path / "grid.png", longest)
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    assert pixels.min() == 0
    assert pixels[0].min() == pixels[-1].min() == 255  # nothing is cut at the top or at the bottom
