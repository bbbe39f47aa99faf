"""Layers that int8 hurts are found and left in floats."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.int8.accuracy import Judge, Limits, Truth
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
    smoothed: "Quantizer | None" = None

    def write(self, file: Path, layers: Collection[str]) -> None:
        assert layers
        file.write_text(" ".join(layers))


class Smoothed(Quantizer):
    method = "smoothed"

    def __init__(self, wrong: int) -> None:
        self.wrong = wrong

    def write(self, file: Path, layers: Collection[str]) -> None:
        file.write_text(" ".join([*layers, f"smoothed:{self.wrong}"]))


class Unsmoothable(Smoothed):
    def write(self, file: Path, layers: Collection[str]) -> None:
        raise UserError("NNCF cannot smooth the graph of this model: no.")


class Scorer:
    def scores(self, session: str, images: Images) -> np.ndarray:
        found = FLOAT[: len(images)].copy()
        start = 0
        words, _, wrong = session.partition(" smoothed:")
        for layer in words.split():
            # "head" in int8 loses what the smoothed quantizer says
            number = int(wrong) if wrong and layer == "head" else ERRORS[layer]
            rows = np.arange(start, start + number) % len(images)
            found[rows] = np.roll(FLOAT[rows], 1, axis=1)
            start += number
        return found


def search(said: list[str], max_drop: float, smoothed: Quantizer | None = None) -> Search:
    judge = Judge(FLOAT, Truth(np.eye(3, dtype=bool)[LABELS]), multi_label=False, thresholds=None, max_drop=max_drop)
    images = Images(map(str, range(300)))
    quantizer = Quantizer()
    quantizer.smoothed = smoothed
    return Search(
        quantizer,
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
    found = search(said, 40).run(tmp_path / "x", Limits(40))
    assert (found.floats, found.table, said) == ((), (), [])
    assert found.drop.judged == pytest.approx(100 * 94 / 300)
    assert (tmp_path / "x").read_text() == "stem a b c head"
    assert "sensitivity" not in found.record()


def test_the_layers_that_hurt_stay_in_floats(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 2).run(tmp_path / "x", Limits(2))
    assert found.floats == ("head", "a")
    assert (tmp_path / "x").read_text() == "stem b c"
    assert found.drop.judged == pytest.approx(100 * 4 / 300)
    assert [one.layer for one in found.table] == ["head", "a", "stem", "c", "b"]
    assert [one.labels for one in found.table] == [60, 30, 3, 1, 0]
    assert said[0].startswith("With all 5 layers in int8: top-1 on 300 images: 100.00% in float, 68.67% in int8")
    assert said[-2:] == [
        "1 of 5 layers in floats: a drop of 11.33 points, 88.7% of the labels agreeing",
        "2 of 5 layers in floats: a drop of 1.33 points, 98.7% of the labels agreeing",
    ]
    record = found.record()
    assert record["float_layers"] == ["head", "a"]
    assert record["all_layers_in_int8"]["drop"] == pytest.approx(31.3333)
    assert record["sensitivity"][4] == {"layer": "b", "logits_error": 0.0, "labels_changed": 0}


def test_layers_stay_in_floats_until_the_labels_agree(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 40).run(tmp_path / "x", Limits(40, 95))  # the drop alone would be accepted
    assert found.floats == ("head", "a")
    assert found.drop.agreement == pytest.approx(100 * 296 / 300)
    assert said[-2] == "1 of 5 layers in floats: a drop of 11.33 points, 88.7% of the labels agreeing"
    smoothed = search(said, 40, Smoothed(2)).run(tmp_path / "x", Limits(40, 88))
    assert (smoothed.quantizer.method, smoothed.floats) == ("smoothed", ())
    with pytest.raises(
        UserError, match=r"is not within --max_drop 40 and --min_agreement 99\.5 with half of the layers"
    ):
        search(said, 40).run(tmp_path / "x", Limits(40, 99.5))
    assert not (tmp_path / "x").exists()


def test_limits_are_reached_at_their_own_value(tmp_path: Path) -> None:
    drop = search([], 40).run(tmp_path / "x", Limits(40)).drop
    assert Limits(drop.judged, drop.agreement).accepts(drop)
    assert not Limits(drop.judged, drop.agreement + 1e-6).accepts(drop)
    assert not Limits(drop.judged - 1e-6, drop.agreement).accepts(drop)
    assert not Limits(40, 1).accepts(replace(drop, judged=np.nan))


def test_nothing_is_left_if_the_drop_stays(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(UserError) as refused:
        search(said, 0.5).run(tmp_path / "x", Limits(0.5))
    assert str(refused.value).startswith(
        "int8 has a drop of 31.33 points, 68.7% of the labels agreeing, and is not within --max_drop 0.5 with half of "
        "the layers in floats either; nothing was written."
    )
    assert "The most sensitive layers: head (" in str(refused.value)
    assert not (tmp_path / "x").exists()
    assert said[1].split()[0] == "layer"


def test_a_smoothed_file_is_accepted_before_layers_stay_in_floats(tmp_path: Path) -> None:
    said: list[str] = []
    smoothed = Smoothed(2)
    found = search(said, 12, smoothed).run(tmp_path / "x", Limits(12))
    assert (found.quantizer, found.floats, found.table) == (smoothed, (), ())
    assert found.drop.judged == found.first.judged == pytest.approx(100 * 36 / 300)
    assert (tmp_path / "x").read_text() == "stem a b c head smoothed:2"
    assert said[1:] == [
        "With SmoothQuant: top-1 on 300 images: 100.00% in float, 88.00% in int8, a drop of 12.00 points (95%: 8.21 to "
        "15.63); 88.0% of the labels agree: accepted"
    ]
    smoothing = found.record()["smoothing"]
    assert smoothing["used"] is True
    assert (smoothing["without"]["drop"], smoothing["with"]["drop"]) == (31.3333, 12.0)


def test_the_search_starts_with_the_smoothed_file_if_it_is_better(tmp_path: Path) -> None:
    said: list[str] = []
    smoothed = Smoothed(5)
    found = search(said, 4, smoothed).run(tmp_path / "x", Limits(4))
    assert (found.quantizer, found.floats) == (smoothed, ("a",))
    assert found.drop.judged == pytest.approx(100 * 9 / 300)
    assert (tmp_path / "x").read_text() == "stem b c head smoothed:5"
    assert said[1].endswith("agree: better, so the search for sensitive layers starts with it")
    assert [one.layer for one in found.table] == ["a", "head", "stem", "c", "b"]
    record = found.record()
    assert record["all_layers_in_int8"]["drop"] == record["smoothing"]["with"]["drop"] == 13.0
    assert (record["drop"], record["smoothing"]["without"]["drop"]) == (3.0, 31.3333)


@pytest.mark.parametrize("wrong", [60, 90])
def test_a_smoothed_file_that_is_not_better_is_not_used(tmp_path: Path, wrong: int) -> None:
    said: list[str] = []
    found = search(said, 2, Smoothed(wrong)).run(tmp_path / "x", Limits(2))
    assert (found.quantizer.method, found.floats) == ("none", ("head", "a"))
    assert (tmp_path / "x").read_text() == "stem b c"
    assert said[1].endswith("agree: not better, so it is not used")
    smoothing = found.record()["smoothing"]
    assert (smoothing["used"], smoothing["with"]["drop"]) == (False, pytest.approx(100 * (34 + wrong) / 300, abs=1e-4))


def test_a_model_that_cannot_be_smoothed(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 2, Unsmoothable(0)).run(tmp_path / "x", Limits(2))
    assert (found.quantizer.method, found.floats) == ("none", ("head", "a"))
    assert (tmp_path / "x").read_text() == "stem b c"
    assert said[1] == "SmoothQuant is not used: NNCF cannot smooth the graph of this model: no."
    assert (found.record()["smoothing"]["used"], found.record()["smoothing"]["with"]) == (False, None)


def test_smoothing_is_not_tried_if_the_drop_is_accepted(tmp_path: Path) -> None:
    said: list[str] = []
    found = search(said, 40, Unsmoothable(0)).run(tmp_path / "x", Limits(40))
    assert (found.quantizer.method, found.smoothing, said) == ("none", None, [])
    assert "smoothing" not in found.record()


def test_a_compiled_file_is_measured_too(tmp_path: Path) -> None:
    one = search([], 2)
    found = one.run(tmp_path / "x", Limits(2))
    confirmed = one.confirm(found, "c", Limits(2))  # type: ignore[arg-type]
    assert (confirmed.floats, confirmed.first) == (found.floats, found.first)
    assert confirmed.drop.judged == pytest.approx(100 / 300)
    with pytest.raises(UserError) as refused:
        one.confirm(found, "a", Limits(2))  # type: ignore[arg-type]
    assert str(refused.value).startswith(
        "The compiled file has a drop of 10.00 points, 90.0% of the labels agreeing, not within --max_drop 2, and its "
        "graph a drop of 1.33 points, 98.7% of the labels agreeing; nothing was written."
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
