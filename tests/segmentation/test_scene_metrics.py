"""Metrics, intervals and objects of an evaluation of segmentation, against plain computations in NumPy."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from inceptionnext_lit.data.evaluation_set import EvaluationSet
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data.sources.sample_table import Sample, Samples
from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.record import Context
from inceptionnext_lit.reports.segmentation.analysis import analyze_scenes
from inceptionnext_lit.reports.segmentation.inference import Tally
from inceptionnext_lit.reports.segmentation.metrics import SceneSummary, compare_scenes, summarize_scenes
from inceptionnext_lit.reports.segmentation.objects import FOUND, IOU, NUMBER, RECALL, measure_objects
from inceptionnext_lit.reports.segmentation.page import ComparedScenes, render_scene_page
from inceptionnext_lit.reports.segmentation.pictures import draw_scene
from inceptionnext_lit.reports.segmentation.record import scene_comparison_record, scene_record
from inceptionnext_lit.reports.segmentation.table import SceneTable
from inceptionnext_lit.reports.segmentation.writing import write_images
from inceptionnext_lit.tasks.segmentation.inference import Best

Pair = tuple[np.ndarray, np.ndarray]
NAMES = ["sky", "<tree>", "car", "never", "only predicted"]
FEW = Bootstrap(resamples=200, seed=3)


def pairs_of(number: int, seed: int = 0, share: float = 0.7) -> list[Pair]:
    """Predictions and masks of several sizes; the last image has no labels, class 3 never occurs."""
    rng = np.random.default_rng(seed)
    pairs = []
    for place in range(number):
        size = tuple(np.random.default_rng(place).integers(6, 20, 2))
        true = np.random.default_rng([7, place]).choice([0, 1, 2, 255], size, p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8)
        if place == number - 1:
            true[:] = 255
        found = np.where(rng.random(size) < share, np.where(true == 255, 0, true), rng.choice([0, 1, 2, 4], size))
        pairs.append((found.astype(np.uint8), true))
    return pairs


def table_of(pairs: Sequence[Pair], names: Sequence[str] = NAMES) -> SceneTable:
    tally = Tally(names, torch.device("cpu"))
    for index, (found, true) in enumerate(pairs):
        of_true = torch.from_numpy(np.where(found == true, 0.6, 0.1)).float()
        best = Best(torch.from_numpy(found).long(), torch.full(found.shape, 0.6), of_true)
        tally.add(index, best, torch.from_numpy(true), with_objects=True)
    samples = Samples.of([Sample(f"image{index}.png", (0,)) for index in range(len(pairs))])
    return tally.table(EvaluationSet(samples, ["val"] * len(pairs), list(names)))


def scores_of(pairs: Sequence[Pair], classes: int = 5) -> dict[str, np.ndarray]:
    """The definition, over the pixels of all images at once."""
    found, true = (np.concatenate([pair[at].ravel() for pair in pairs]) for at in (0, 1))
    found, true = found[true != 255], true[true != 255]
    iou, accuracy = np.full(classes, np.nan), np.full(classes, np.nan)
    for k in range(classes):
        both, either = ((found == k) & (true == k)).sum(), ((found == k) | (true == k)).sum()
        iou[k] = both / either if either else np.nan
        accuracy[k] = both / (true == k).sum() if (true == k).any() else np.nan
    right = (found == true).mean() if len(true) else np.nan
    return {"IoU": iou, "Acc": accuracy, "mIoU": np.nanmean(iou), "mAcc": np.nanmean(accuracy), "aAcc": right}


def test_metrics_are_the_definitions() -> None:
    pairs = pairs_of(30)
    summary, expected = summarize_scenes(table_of(pairs), FEW), scores_of(pairs)
    for name in ("mIoU", "mAcc", "aAcc"):
        assert summary.metrics[name].value == pytest.approx(expected[name], abs=1e-12)
    assert [score.iou.value for score in summary.classes] == pytest.approx(expected["IoU"], abs=1e-12, nan_ok=True)
    assert [score.accuracy.value for score in summary.classes] == pytest.approx(expected["Acc"], abs=1e-12, nan_ok=True)
    assert "boundary_f1" not in summary.metrics
    right = expected["aAcc"]
    expected_loss = -(right * np.log(0.6) + (1 - right) * np.log(0.1))
    assert summary.metrics["loss"].value == pytest.approx(expected_loss, abs=1e-6)
    true = np.concatenate([true.ravel() for _, true in pairs])
    assert [score.pixels for score in summary.classes] == [(true == k).sum() for k in range(5)]
    assert summary.classes[3].images == 0
    assert summary.classes[4].iou.value == 0


def test_intervals_are_those_of_drawing_images() -> None:
    pairs = pairs_of(12)
    summary = summarize_scenes(table_of(pairs), FEW)
    drawn = np.random.default_rng(FEW.seed).integers(len(pairs), size=(FEW.resamples, len(pairs)))
    samples = [scores_of([pairs[index] for index in one]) for one in drawn.tolist()]
    for name in ("mIoU", "mAcc", "aAcc"):
        low, high = np.percentile([one[name] for one in samples], [2.5, 97.5])
        assert summary.metrics[name].low == pytest.approx(low, abs=1e-12)
        assert summary.metrics[name].high == pytest.approx(high, abs=1e-12)
    for k in (0, 1, 2):
        low, high = np.percentile([one["IoU"][k] for one in samples], [2.5, 97.5])
        assert (summary.classes[k].iou.low, summary.classes[k].iou.high) == pytest.approx((low, high), abs=1e-12)
    assert np.isnan(summary.classes[3].iou.low)


def test_the_difference_is_paired() -> None:
    first, second = pairs_of(12), pairs_of(12, seed=1, share=0.8)
    found = compare_scenes(table_of(first), table_of(second), FEW)
    drawn = np.random.default_rng(FEW.seed).integers(12, size=(FEW.resamples, 12))
    changes = [
        scores_of([second[i] for i in one])["mIoU"] - scores_of([first[i] for i in one])["mIoU"]
        for one in drawn.tolist()
    ]
    expected = (scores_of(second)["mIoU"] - scores_of(first)["mIoU"], *np.percentile(changes, [2.5, 97.5]))
    change = found.metrics["mIoU"]
    assert (change.value, change.low, change.high) == pytest.approx(expected, abs=1e-12)
    of_class = scores_of(second)["IoU"] - scores_of(first)["IoU"]
    assert [metric.value for metric in found.classes] == pytest.approx(of_class, abs=1e-12, nan_ok=True)
    assert np.isnan(found.gains[-1])
    same = compare_scenes(table_of(first), table_of(first), FEW).metrics["mIoU"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_boundary_of_two_classes() -> None:
    pairs = [(found % 2, np.where(true == 255, 255, true % 2)) for found, true in pairs_of(9)]
    table = table_of(pairs, ["no", "yes"])
    assert table.boundary is not None
    assert np.isnan(table.boundary[-1])
    summary = summarize_scenes(table, FEW)
    assert summary.metrics["boundary_f1"].value == pytest.approx(np.nanmean(table.boundary), abs=1e-12)
    assert summary.metrics["boundary_f1"].low < summary.metrics["boundary_f1"].high


def test_images_are_described_one_by_one(tmp_path: Path) -> None:
    pairs = pairs_of(6)
    table = table_of(pairs)
    write_images(table, tmp_path / "per_image.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "per_image.parquet").to_pylist()
    for row, (found, true) in zip(rows[:-1], pairs, strict=False):
        expected = scores_of([(found, true)])
        assert row["mIoU"] == pytest.approx(expected["mIoU"])
        assert row["accuracy"] == pytest.approx(expected["aAcc"])
        of_mask = {k: expected["IoU"][k] for k in range(5) if (true == k).any()}
        worst = min(of_mask, key=of_mask.__getitem__)
        assert (row["worst_class"], row["worst_class_IoU"]) == (NAMES[worst], pytest.approx(of_mask[worst]))
        assert row["labeled"] == pytest.approx((true != 255).mean())
        assert row["true_car"] == pytest.approx((true == 2).sum() / (true != 255).sum())
        assert row["predicted_car"] == pytest.approx(((found == 2) & (true != 255)).sum() / (true != 255).sum())
        assert (row["height"], row["width"]) == true.shape
    last = rows[-1]
    assert (last["path"], last["mIoU"], last["worst_class"], last["true_car"]) == ("image5.png", None, None, None)
    write_images(table, tmp_path / "per_image.csv")
    lines = (tmp_path / "per_image.csv").read_text().splitlines()
    assert lines[0].startswith(
        "path,split,width,height,labeled,mIoU,accuracy,loss,worst_class,worst_class_IoU,true_sky"
    )
    assert lines[-1].endswith(f",0.0,,,,,{',' * 10}")
    assert float(lines[1].split(",")[5]) == rows[0]["mIoU"]


def test_objects_by_size() -> None:
    true = np.zeros((60, 100), dtype=np.uint8)  # small below 20 pixels, large from 180 on
    found = true.copy()
    true[2:5, 2:5] = 1  # 9 pixels, found whole
    found[2:5, 2:5] = 1
    true[20:30, 20:30] = 1  # 100 pixels; the prediction is a neighbor's, of which it covers 30, and has 20 more
    found[20:30, 27:32] = 1
    true[40:50, 40:50] = 1  # a corner joins the next
    true[50:60, 50:60] = 1
    true[0, 90:] = 255
    found[0, 90:] = 1  # ignored
    sums = measure_objects(true, found, 3)
    assert sums[1, :, NUMBER].tolist() == [1, 1, 1]
    assert sums[1, :, FOUND].tolist() == [1, 0, 0]
    assert sums[1, :, RECALL] == pytest.approx([1, 0.3, 0])
    assert sums[1, :, IOU] == pytest.approx([1, 30 / 120, 0])
    assert sums[0, :, NUMBER].tolist() == [0, 0, 1]
    assert not sums[2].any()


def test_the_best_part_counts_for_an_object() -> None:
    true, found = np.zeros((2, 40, 40), dtype=np.uint8)
    true[:, :] = 0
    true[10:30, 10:30] = 1
    found[10:30, 10:13] = 1  # 60 of its 400 pixels
    found[10:30, 14:30] = 1  # 320
    sums = measure_objects(true, found, 2)
    assert sums[1, 2, RECALL] == pytest.approx(380 / 400)
    assert sums[1, 2, IOU] == pytest.approx(320 / 400)


def context(**changes: object) -> Context:
    made = Context(("6 images in data.",), "data", "val", "best.ckpt", "python cli.py evaluate best.ckpt")
    return replace(made, model={"name": "a", "arguments": {"lr": 1}}, **changes)


def test_the_record_has_the_numbers() -> None:
    pairs = pairs_of(12)
    table = table_of(pairs)
    analysis = analyze_scenes({"raw": table, "ema": table}, colormap(5), FEW)
    record = json.loads(json.dumps(scene_record(analysis, context(unreadable=[("x", "damaged")])), allow_nan=False))
    expected = scores_of(pairs)
    assert record["task"] == "segmentation"
    assert list(record["metrics"]) == ["mIoU", "mAcc", "aAcc", "loss"]
    assert record["metrics"]["mIoU"]["value"] == pytest.approx(expected["mIoU"])
    assert set(record["weights"]) == {"raw", "ema"}
    assert record["predict_uses"] == "ema"
    assert list(record["per_class"]) == ["only predicted", "car", "<tree>", "sky", "never"]
    tree = record["per_class"]["<tree>"]
    assert tree["IoU"] == pytest.approx(expected["IoU"][1])
    assert tree["IoU_low"] < tree["IoU"] < tree["IoU_high"]
    assert tree["accuracy"] == pytest.approx(expected["Acc"][1])
    assert tree["pixels"] == sum((true == 1).sum() for _, true in pairs)
    assert record["per_class"]["never"] == {
        **dict.fromkeys(("IoU", "IoU_low", "IoU_high", "accuracy", "accuracy_low", "accuracy_high", "confused_with")),
        **dict.fromkeys(("pixels", "predicted_pixels", "images", "confused_pixels"), 0),
    }
    assert record["data"]["images_without_labels"] == 1
    assert record["data"]["unreadable"] == [{"path": "x", "reason": "damaged"}]
    assert record["data"]["labeled_pixels"] == sum(map(sum, record["confusion"]["matrix"]))
    assert len(record["worst"]) == 11
    assert record["worst"][0]["mIoU"] == min(scores_of([pair])["mIoU"] for pair in pairs[:-1])
    assert set(record["objects"]["sizes"]) == {"small", "medium", "large"}
    of_classes = sum(one["small"]["objects"] for one in record["objects"]["per_class"].values())
    assert of_classes == record["objects"]["sizes"]["small"]["objects"]
    other = analyze_scenes({"raw": table_of(pairs_of(12, seed=1))}, colormap(5), FEW)
    found = scene_comparison_record(other, context(), compare_scenes(table, other.table, FEW))
    json.dumps(found, allow_nan=False)
    assert set(found["mIoU_difference"]) == {"value", "low", "high"}
    assert found["better"][0]["mIoU_difference"] > 0 > found["worse"][0]["mIoU_difference"]


def test_the_page_has_every_section(tmp_path: Path) -> None:
    pairs = pairs_of(12)
    table = table_of(pairs)
    analysis = analyze_scenes({"raw": table, "ema": table}, colormap(5), FEW)
    other = analyze_scenes({"raw": table_of(pairs_of(12, seed=1))}, colormap(5), FEW)
    pictures = {
        index: draw_scene(
            torch.zeros(3, *pairs[index][1].shape, dtype=torch.uint8),
            pairs[index][1],
            pairs[index][0],
            colormap(5),
            NAMES,
        )
        for index in table.worst()[:3]
    }
    compared = ComparedScenes("other.ckpt", other, compare_scenes(table, other.table, FEW), ("A note.",))
    curves = {"val/mIoU": [(0.0, 0.5), (1.0, 0.7)]}
    page = render_scene_page(analysis, context(curves=curves, cost={"parameters": 5}), pictures, [compared])
    ids = re.findall(r'<section id="([\w-]+)">', page)
    assert ids == ["data", "metrics", "comparison", "curves", "classes", "confusion", "objects", "worst", "cost"]
    assert re.findall(r'<a href="#([\w-]+)"', page) == ids
    assert page.count("<img ") == 12
    assert all(re.findall(r'<img [^>]*alt="([^"]*)"', page))
    assert "&lt;tree&gt;" in page
    assert "<tree>" not in page
    assert "1 image has no labeled pixel" in page
    assert "Without pixels in the masks: never, only predicted." in page
    assert "predict uses the averaged weights" in page
    assert f"{analysis.summary.metrics['mIoU'].value:.4f} (" in page
    assert not re.search(r'(src|href)="(?!data:|#|/)', page)
    assert "nan" not in re.sub(r"base64,[\w+/=]+", "", page)


def test_the_picture_of_a_difference(tmp_path: Path) -> None:
    import base64
    import io

    true, found = np.zeros((2, 40, 60), dtype=np.uint8)
    true[:10], true[10:20] = 255, 1
    found[10:30] = 1
    drawn = draw_scene(
        torch.full((3, 20, 30), 200, dtype=torch.uint8), true, found, [[0, 0, 0], [0, 0, 255]], NAMES[:2]
    )
    shown = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(getattr(drawn, name).partition(",")[2])))).astype(int)
        for name in ("image", "mask", "prediction", "difference")
    }
    assert {picture.shape for picture in shown.values()} == {(40, 60, 3)}
    assert abs(shown["image"] - 200).max() < 5
    assert abs(shown["mask"][14, 30] - (90, 90, 230)).max() < 12
    assert abs(shown["mask"][35, 30] - 200).max() < 12
    assert abs(shown["prediction"][25, 30] - (90, 90, 230)).max() < 12
    difference = shown["difference"]
    assert difference[4, 30].min() > 200  # ignored
    assert abs(difference[14, 30] - 100).max() < 25  # right
    assert (difference[22:28, 10:50, 0] - difference[22:28, 10:50, 2]).min() > 40  # wrong


def test_one_image_has_no_intervals() -> None:
    summary: SceneSummary = summarize_scenes(table_of(pairs_of(2)[:1]), FEW)
    assert np.isfinite(summary.metrics["mIoU"].value)
    assert np.isnan(summary.metrics["mIoU"].low)
    assert all(np.isnan(score.iou.low) for score in summary.classes)
