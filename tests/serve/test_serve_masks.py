"""A server with a segmentation model: rows with masks, metadata, and the exported file."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit import load_segmenter
from inceptionnext_lit.serve.labeling import Answer, Labeler
from inceptionnext_lit.serve.schemas import MaskRow
from inceptionnext_lit.serve.worker import load, metadata, try_out
from tests.small_segmenter import CLASSES, PALETTE, save_segmenter


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    save_segmenter(tmp_path / "s.ckpt")
    return {"model": str(tmp_path / "s.ckpt"), "device": None, "max_pixels": 10**6, "unsure_below": 0.9}


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_rows_have_the_mask(options: dict[str, Any]) -> None:
    labeler = Labeler(load(options), options["max_pixels"], options["unsure_below"])
    try_out(labeler)
    images = [np.random.default_rng(seed).integers(0, 255, (40, 50 + seed, 3), dtype=np.uint8) for seed in range(2)]
    answers: list[Answer] = []
    for group, _ in labeler.groups([png(images[0]), b"\x89PNG\r\n\x1a\nbroken", png(images[1])]):
        answers += labeler.label(group)
    assert [answer.status for answer in answers] == [200, 422, 200]
    expected = load_segmenter(options["model"]).predict(images)
    for answer, one in zip((answers[0], answers[2]), expected, strict=True):
        row = MaskRow(**(answer.row or {}))
        mask = Image.open(io.BytesIO(base64.b64decode(row.mask)))
        assert np.array_equal(np.asarray(mask), one.mask)
        assert mask.getpalette()[:9] == [level for color in PALETTE for level in color]
        assert row.confidence == pytest.approx(one.confidence, abs=1e-6)
        assert row.unsure == (one.confidence < 0.9)
        assert row.areas == pytest.approx(one.areas, abs=1e-6)


def test_metadata(options: dict[str, Any]) -> None:
    found = metadata(load(options), options)
    assert (found["task"], found["class_names"], found["palette"]) == ("segmentation", CLASSES, PALETTE)
    assert found["heat_map_note"] == "Heat maps are of classifiers; this model gives each pixel a class."
