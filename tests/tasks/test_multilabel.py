"""Multi-label classification: loss, metrics on any number of ranks, prediction, and errors."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score
from torch.nn import functional as F

from inceptionnext_lit import load_classifier
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix
from tests.batches import finished
from tests.ranks import run_ranks
from tests.recipes import SMALL

INPUT = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3)
COLORS = ("blue", "green", "red")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Write images with a patch of the color of each label, or none."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(48):
        pixels = generator.integers(0, 60, (28, 28, 3), dtype=np.uint8)
        shown = [name for bit, name in enumerate(COLORS) if number >> bit & 1]
        for name in shown:
            channel = {"red": 0, "green": 1, "blue": 2}[name]
            y, x = generator.integers(0, 16, 2)
            pixels[y : y + 12, x : x + 12, channel] = 255
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append([f"{number}.png", "|".join(shown), "val" if number >= 35 else "train"])
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return tmp_path / "list.csv"


def data_of(manifest: Path, batch_size: int = 5) -> ImageFolderDataModule:
    return ImageFolderDataModule(
        str(manifest), image_size=28, batch_size=batch_size, num_workers=0, multi_label=True,
        input=InputOptions(crop_pct=1.0, mean=[0.5] * 3, std=[0.5] * 3),
    )  # fmt: skip


def task_of(data: ImageFolderDataModule, **options: Any) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(
        "inceptionnext_iso_micro", **options,
        data_spec=DataSpec(class_names=data.classes, preprocessing=INPUT, multi_label=True),
    )  # fmt: skip


def trainer(folder: Path, ranks: int = 1, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, **options,
    )  # fmt: skip


def evaluate(manifest: Path, ranks: int) -> dict[str, float]:
    data = data_of(manifest)
    [metrics] = trainer(manifest.parent, ranks).validate(task_of(data, ema_decay=0.9), data, verbose=False)
    return dict(metrics)


def test_batches_contain_multi_hot_labels(manifest: Path) -> None:
    data = data_of(manifest)
    assert data.classes == list(COLORS)
    data.setup("fit")
    images, labels = finished(data, data.val_dataloader())[0]
    assert images.shape == (5, 3, 28, 28)
    assert labels.tolist() == [[float(n >> bit & 1) for bit in range(3)] for n in range(35, 40)]


def test_metrics_are_those_of_scikit_learn(manifest: Path) -> None:
    metrics = evaluate(manifest, 1)
    data = data_of(manifest, batch_size=13)
    data.setup("validate")
    [(images, labels)] = finished(data, data.val_dataloader())
    with torch.no_grad():
        logits = task_of(data).eval().model(images)
    scores, truth = logits.sigmoid().numpy(), labels.numpy().astype(int)
    of_label = f1_score(truth, scores > 0.5, average=None, zero_division=0)
    assert metrics["val/mAP"] == pytest.approx(average_precision_score(truth, scores, average="macro"), abs=1e-6)
    assert metrics["val/f1"] == pytest.approx(of_label.mean(), abs=1e-6)
    assert [metrics[f"val/f1/{name}"] for name in COLORS] == pytest.approx(of_label, abs=1e-6)
    assert metrics["val/loss"] == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, labels)), abs=1e-5)
    assert set(task_of(data, ema_decay=0.9).directions) == set(metrics)


@pytest.mark.slow
def test_metrics_are_the_same_on_two_ranks(manifest: Path, tmp_path: Path) -> None:
    single = evaluate(manifest, 1)
    for metrics in run_ranks(2, evaluate, tmp_path / "out", manifest, 2):
        assert metrics == pytest.approx(single, abs=1e-7)


@pytest.mark.slow
def test_it_learns_and_mixes(manifest: Path) -> None:
    data = data_of(manifest, batch_size=7)
    run = trainer(manifest.parent, max_epochs=25)
    run.fit(task_of(data, lr=5e-3, loss=LossOptions(mix=Mix(mixup=0.2, cutmix=0.5, prob=0.3))), data)
    assert run.callback_metrics["val/mAP"] > 0.9
    assert run.callback_metrics["val/f1/red"] > 0.6


@pytest.mark.slow
def test_on_the_command_line(cli: Callable[..., None], manifest: Path, tmp_path: Path) -> None:
    words = [*SMALL, "--data.root", manifest, "--data.batch_size", "7", "--trainer.max_epochs", "1"]
    cli("fit", *words, "--data.multi_label", "true", "--checkpoint.monitor", "auto")
    run = tmp_path / "runs/quickstart/version_0"
    with (run / "metrics.csv").open() as file:
        [row] = [row for row in csv.DictReader(file) if row["val/mAP"]]
    assert {"val/f1", "val/f1/blue", "val/f1/green", "val/f1/red", "val/loss"} <= row.keys()
    assert (run / "checkpoints/best.ckpt").is_file()
    checkpoint = run / "checkpoints/best.ckpt"
    cli("validate", "--ckpt_path", checkpoint, "--data.root", manifest)
    cli("predict", manifest, "--ckpt_path", checkpoint, "--output", "labels.csv")
    with open("labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    for row in rows:
        scores = json.loads(row["top5"])
        assert set(filter(None, row["label"].split("|"))) == {name for name in COLORS if scores[name] >= 0.5}
        assert float(row["probability"]) == max(scores.values())
    predictions = load_classifier(checkpoint).predict([row["path"] for row in rows])
    assert [prediction.label for prediction in predictions] == [row["label"] for row in rows]
    assert len({row["label"] for row in rows}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r"several labels \(blue, green, red\), but the task expects one per image; set --data\.multi_label true"),
        (["--data.multi_label", "true", "--data.root", "sample"], r"data\.multi_label is on, but class folders give"),
        (["--data.multi_label", "true"], r"checkpoint\.monitor is 'val/acc1', which is not logged; did you mean"),
    ],
)
def test_the_wrong_label_type(
    cli: Callable[..., None], manifest: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *SMALL, "--data.root", manifest, *options)
    assert exit_.value.code == 1
    assert re.search(message, capsys.readouterr().err)
