"""Layers that int8 hurts are found and left in floats."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.accuracy import Judge, Truth
from inceptionnext_lit.export.int8.search import Search, Sensitivity, steps, table_lines

LABELS = np.arange(300) % 3
FLOAT = np.full((300, 3), 0.1, np.float32)
FLOAT[np.arange(300), LABELS] = 0.8
ERRORS = {"stem": 3, "a": 30, "b": 0, "c": 1, "head": 60}  # images whose label each layer changes


class Images(list[str]):
    def first(self, number: int) -> "Images":
        return Images(self[:number])


class Quantizer:
    layers = tuple(ERRORS)
    method = "none"

    def write(self, file: Path, layers: Collection[str]) -> None:
        assert layers
        file.write_text(" ".join(layers))


class Scorer:
    def scores(self, session: str, images: Images) -> np.ndarray:
        found = FLOAT[: len(images)].copy()
        start = 0
        for layer in session.split():
            rows = np.arange(start, start + ERRORS[layer]) % len(images)
            found[rows] = np.roll(FLOAT[rows], 1, axis=1)
            start += ERRORS[layer]
        return found


def search(said: list[str], max_drop: float) -> Search:
    judge = Judge(FLOAT, Truth(np.eye(3, dtype=bool)[LABELS]), multi_label=False, thresholds=None, max_drop=max_drop)
    images = Images(map(str, range(300)))
    return Search(
        Quantizer(),
        Path.read_text,  # type: ignore[arg-type]
        Scorer(),  # type: ignore[arg-type]
        judge,
        images,  # type: ignore[arg-type]
        images,  # type: ignore[arg-type]
        "",  # type: ignore[arg-type]
        multi_label=False,
        say=said.append,
    )


def test_all_layers_if_the_drop_is_accepted(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 40).run(tmp_path / "x", 40)
    assert (found.floats, found.table, said) == ((), (), [])
    assert found.drop.judged == pytest.approx(100 * 94 / 300)
    assert (tmp_path / "x").read_text() == "stem a b c head"
    assert "sensitivity" not in found.record()


def test_the_layers_that_hurt_stay_in_floats(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 2).run(tmp_path / "x", 2)
    assert found.floats == ("head", "a")
    assert (tmp_path / "x").read_text() == "stem b c"
    assert found.drop.judged == pytest.approx(100 * 4 / 300)
    assert [one.layer for one in found.table] == ["head", "a", "stem", "c", "b"]
    assert [one.labels for one in found.table] == [60, 30, 3, 1, 0]
    assert said[0].startswith("With all 5 layers in int8: top-1 on 300 images: 100.00% in float, 68.67% in int8")
    assert said[-2:] == [
        "1 of 5 layers in floats: a drop of 11.33 points",
        "2 of 5 layers in floats: a drop of 1.33 points",
    ]
    record = found.record()
    assert record["float_layers"] == ["head", "a"]
    assert record["all_layers_in_int8"]["drop"] == pytest.approx(31.3333)
    assert record["sensitivity"][4] == {"layer": "b", "logits_error": 0.0, "labels_changed": 0}


def test_nothing_is_left_if_the_drop_stays(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(UserError) as refused:
        search(said, 0.5).run(tmp_path / "x", 0.5)
    assert str(refused.value).startswith(
        "int8 loses 31.33 points (measured), and with half of the layers in floats still more than --max_drop 0.5; "
        "nothing was written."
    )
    assert "The most sensitive layers: head (" in str(refused.value)
    assert not (tmp_path / "x").exists()
    assert said[1].split()[0] == "layer"


def test_a_compiled_file_is_measured_too(tmp_path: Path) -> None:
    one = search([], 2)
    found = one.run(tmp_path / "x", 2)
    confirmed = one.confirm(found, "c", 2)  # type: ignore[arg-type]
    assert (confirmed.floats, confirmed.first) == (found.floats, found.first)
    assert confirmed.drop.judged == pytest.approx(100 / 300)
    with pytest.raises(UserError) as refused:
        one.confirm(found, "a", 2)  # type: ignore[arg-type]
    assert str(refused.value).startswith(
        "The compiled file loses 10.00 points (measured), more than --max_drop 2, and its graph 1.33; nothing was "
        "written."
    )


def test_steps() -> None:
    assert steps(0) == []
    assert steps(1) == [1]
    assert steps(2) == [1, 2]
    assert steps(20) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 20]


def test_table() -> None:
    assert table_lines([Sensitivity("blocks.0.mlp.fc1", 0.25, 3), Sensitivity("stem", 0.01, 0)], 64) == [
        "layer in int8 alone  logits differ by  labels changed of 64",
        "blocks.0.mlp.fc1            0.2500               3",
        "stem                        0.0100               0",
    ]
