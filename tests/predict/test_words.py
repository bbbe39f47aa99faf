"""Classes that are WordNet IDs carry their words, everywhere that people read them."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from inceptionnext_lit import load_classifier
from inceptionnext_lit.data.class_words import class_words, with_words
from tests.small_checkpoint import save_checkpoint

CLASSES = ["n02123045", "n01440764", "n01491361"]
WORDS = {"n02123045": "tabby, tabby cat", "n01440764": "tench, Tinca tinca"}
SUFFIXES = [".csv", ".parquet", *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".json", ".jsonl"))]
Cli = Callable[..., None]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return class folders, and a checkpoint beside them."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for wnid in CLASSES:
            (tmp_path / "images" / split / wnid).mkdir(parents=True)
            for number in range(3):
                pixels = draw.integers(0, 256, (28, 28, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / wnid / f"{split}_{number}.png")
    save_checkpoint(tmp_path / "best.ckpt", CLASSES)
    return tmp_path / "images"


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(csv.DictReader(path.open(newline="")))
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_predict_writes_the_words_of_the_label(suffix: str, images: Path, cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / f"labels{suffix}"
    words = ["predict", images / "val", "--ckpt_path", tmp_path / "best.ckpt", "--output", output]
    cli(*words)
    rows = rows_of(output)
    assert [list(row) for row in rows] == [["path", "label", "probability", "top5", "words"]] * 9
    assert [row["words"] for row in rows] == [class_words(row["label"]) for row in rows]
    cli(*words, "--resume")
    assert rows_of(output) == rows


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_words_is_continued_without_them(
    suffix: str, images: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / f"labels{suffix}"
    words = ["--ckpt_path", tmp_path / "best.ckpt", "--output", output]
    with monkeypatch.context() as patch:
        patch.setattr("inceptionnext_lit.predict.output.class_words", lambda name: None)
        cli("predict", images / "val" / CLASSES[0], *words)
    assert len(rows_of(output)) == 3
    cli("predict", images / "val", *words, "--resume")
    assert [list(row) for row in rows_of(output)] == [["path", "label", "probability", "top5"]] * 9


@pytest.mark.slow
def test_all_probabilities_follow_the_words(images: Path, cli: Cli, tmp_path: Path) -> None:
    options = ["--ckpt_path", tmp_path / "best.ckpt", "--probabilities", "all", "--unsure_below", "0.5"]
    cli("predict", images / "val", *options, "--output", tmp_path / "labels.csv")
    fields = ["path", "label", "probability", "top5", "unsure", "words"]
    assert list(rows_of(tmp_path / "labels.csv")[0]) == [*fields, *(f"prob_{name}" for name in CLASSES)]


@pytest.mark.slow
def test_other_classes_have_no_words(images: Path, cli: Cli, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "own.ckpt", ["bag", "coat"])
    cli("predict", images / "val", "--ckpt_path", tmp_path / "own.ckpt", "--output", tmp_path / "labels.csv")
    assert list(rows_of(tmp_path / "labels.csv")[0]) == ["path", "label", "probability", "top5"]


def test_predictions_in_python(images: Path, tmp_path: Path) -> None:
    image = next((images / "val" / CLASSES[0]).iterdir())
    [prediction] = load_classifier(tmp_path / "best.ckpt").predict(image)
    assert prediction.words == class_words(prediction.label)
    assert prediction.words is not None


def test_doctor(images: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("json", "html"):
        cli("doctor", images, "--workers", "1", "--output", tmp_path / f"report.{suffix}")
    assert "n02123045 (tabby)" in capsys.readouterr().out
    assert "<td>n02123045 (tabby)</td>" in (tmp_path / "report.html").read_text()
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["words"] == {name: class_words(name) for name in CLASSES}
    assert record["splits"]["train"] == dict.fromkeys(sorted(CLASSES), 3)


def test_evaluate(images: Path, cli: Cli, tmp_path: Path) -> None:
    cli("evaluate", tmp_path / "best.ckpt", "--data.root", images, "--output", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    for wnid in CLASSES:
        assert f"true: {with_words(wnid)}" in page
        assert re.search(rf"<t[hd][^>]*>{re.escape(with_words(wnid))}<", page)
    classes = json.loads((tmp_path / "report" / "report.json").read_text())["per_class"]
    assert {row["class"]: row["words"] for row in classes} == {name: class_words(name) for name in CLASSES}


def test_explain(images: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = next((images / "val" / CLASSES[0]).iterdir())
    cli("explain", tmp_path / "best.ckpt", image, "--class", "tench", "--output", tmp_path / "map.svg")
    assert "for n01440764 (tench)" in capsys.readouterr().out
    assert "for n01440764 (tench)" in (tmp_path / "map.svg").read_text()
