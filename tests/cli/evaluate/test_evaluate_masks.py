"""The command evaluate with segmentation models."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from inceptionnext_lit.data import SegmentationDataModule
from inceptionnext_lit.tasks.loading import load_segmentation_task
from inceptionnext_lit.tasks.segmentation.inference import InferenceOptions
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from tests.scenes import NAMES, write_classes, write_pairs, write_palette
from tests.small_checkpoint import save_checkpoint
from tests.small_segmenter import CLASSES, save_segmenter

Cli = Callable[..., None]
FAST = ["--data.num_workers", "0", "--resamples", "100", "--device", "cpu"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint whose averaged weights predict something else than the raw ones."""
    save_segmenter(tmp_path / "a.ckpt", classes=NAMES, ema_decay=0.9)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["state_dict"]["model_ema.module.decoder.classifier.1.weight"].mul_(-1)
    torch.save(content, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data", counts={"train": 3, "val": 7}, ignored=True)
    write_classes(tmp_path / "data/classes.csv")
    return tmp_path / "data"


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as caught:
        cli("evaluate", *words)
    assert caught.value.code == code
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def test_the_metrics_are_validates(
    cli: Cli, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("evaluate", checkpoint, "--data.root", "data", "--split", "val", *FAST)
    printed = capsys.readouterr().out
    assert printed.startswith("Images:     7 images of 3 classes in data (7 val)\n")
    assert re.search(r"^mIoU +0\.\d{4}  \(0\.\d{4} to 0\.\d{4}\)$", printed, re.MULTILINE)
    names = ("per_image.parquet", "confusion.csv", "report.json", "index.html")
    assert [line for line in printed.splitlines() if line.startswith("Written")] == [
        f"Written to report/{name}" for name in names
    ]
    found = report(tmp_path / "report")

    # validate, with Lightning
    task = load_segmentation_task(checkpoint)[0]
    module = SegmentationDataModule("data", crop_size=32, class_names=NAMES, batch_size=2, num_workers=0,
                                    input=_input(task.preprocessing))  # fmt: skip
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    [metrics] = trainer.validate(task, module, verbose=False)
    for stage, weights in (("val", "raw"), ("val_ema", "ema")):
        for name in ("mIoU", "mAcc", "aAcc", "loss"):
            ours = found["weights"][weights][name]["value"]
            assert ours == pytest.approx(metrics[f"{stage}/{name}"], abs=1e-9)
    for name, row in found["per_class"].items():
        assert np.float32(row["IoU"]) == pytest.approx(metrics[f"val_ema/IoU/{name}"], abs=1e-9)

    # the definition, over masks saved as PNGs
    totals = np.zeros((3, 3), dtype=np.int64)
    module.setup("validate")
    rows = pyarrow.parquet.read_table(tmp_path / "report/per_image.parquet").to_pylist()
    for index, row in enumerate(rows):
        pixels, mask, path = module.val_set[index]
        assert row["path"] == path
        size = (mask.shape[0], mask.shape[1])
        with torch.no_grad():
            image = module._to_scenes(pixels)
            classes = task.inference.probabilities(task.inference_model, image, size).argmax(dim=0)
        Image.fromarray(classes.to(torch.uint8).numpy()).save(tmp_path / "predicted.png")
        predicted, true = np.asarray(Image.open(tmp_path / "predicted.png")), mask.numpy()
        own = np.zeros((3, 3), dtype=np.int64)
        np.add.at(own, (true[true != 255], predicted[true != 255]), 1)
        totals += own
        either = own.sum(axis=0) + own.sum(axis=1) - np.diag(own)
        assert row["mIoU"] == pytest.approx(np.mean((np.diag(own) / either)[either > 0]), abs=1e-12)
        assert row["split"] == "val"
    with (tmp_path / "report/confusion.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["true class", *NAMES]
    assert [[int(cell) for cell in line[1:]] for line in lines] == totals.tolist() == found["confusion"]["matrix"]
    iou = np.diag(totals) / (totals.sum(axis=0) + totals.sum(axis=1) - np.diag(totals))
    assert {name: row["IoU"] for name, row in found["per_class"].items()} == pytest.approx(
        dict(zip(NAMES, iou, strict=True)), abs=1e-12
    )
    assert found["metrics"]["mIoU"]["value"] == pytest.approx(iou.mean(), abs=1e-12)
    assert found["predict_uses"] == "ema"
    assert found["cost"]["parameters"] == sum(one.numel() for one in task.inference_model.parameters())
    page = (tmp_path / "report/index.html").read_text()
    assert page.count("<img ") == 4 * 7


def _input(preprocessing: Any) -> Any:
    from inceptionnext_lit.data.input_format import InputOptions

    return InputOptions(mean=preprocessing["mean"], std=preprocessing["std"])


def test_several_scales_start_from_the_original_images(cli: Cli, data: Path, tmp_path: Path) -> None:
    options = SegmentationOptions(
        decoder="semantic_fpn",
        decoder_kwargs={"width": 16, "head_width": 8},
        inference=InferenceOptions(scales=[1.0, 2.0]),
    )
    save_segmenter(tmp_path / "s.ckpt", classes=NAMES, options=options, preprocessing={"scale": [16, 12]})
    cli("evaluate", tmp_path / "s.ckpt", "--data.root", "data", "--split", "val", *FAST)
    task = load_segmentation_task(tmp_path / "s.ckpt")[0]
    given = {"class_names": NAMES, "batch_size": 2, "num_workers": 0, "input": _input(task.preprocessing)}
    module = SegmentationDataModule("data", crop_size=32, scale=[16, 12], **given)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    [metrics] = trainer.validate(task, module, verbose=False)
    found = report(tmp_path / "report")["metrics"]
    assert np.float32(found["loss"]["value"]) == pytest.approx(metrics["val/loss"], rel=1e-6)
    assert np.float32(found["mIoU"]["value"]) == pytest.approx(metrics["val/mIoU"], abs=1e-9)


@pytest.mark.slow
def test_checkpoints_are_compared(
    cli: Cli, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_segmenter(tmp_path / "b.ckpt", classes=NAMES, seed=1)
    cli("evaluate", "a.ckpt", "b.ckpt", "--data.root", "data", "--output", "both", *FAST, "--table", "csv")
    printed = capsys.readouterr().out
    assert re.search(r"^b\.ckpt: mIoU 0\.\d{4}  \(.*\), [+-]0\.\d{4} \([+-]0\.\d{4} to [+-]0\.\d{4}\)$", printed, re.M)
    found = report(tmp_path / "both")
    [other] = found["comparisons"]
    change = other["metrics"]["mIoU"]["value"] - found["metrics"]["mIoU"]["value"]
    assert other["mIoU_difference"]["value"] == pytest.approx(change)
    assert found["data"]["splits"] == {"train": 3, "val": 7}
    cli("evaluate", "b.ckpt", "--data.root", "data", "--output", "alone", *FAST)
    assert report(tmp_path / "alone")["metrics"] == other["metrics"]
    assert (tmp_path / "both/per_image_2.csv").is_file()


@pytest.mark.slow
def test_a_run_s_own_images(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "own", save=write_palette, counts={"": 12})
    recipe = Path(__file__).parents[3] / "configs/segment/quickstart.yaml"
    cli(
        "fit", "--config", recipe, "--model.name", "inceptionnext_iso_micro", "--data.root", "own",
        "--data.crop_size", 32, "--data.batch_size", 4, "--trainer.max_epochs", 1, "--model.ema_decay", 0.9,
        "--trainer.check_val_every_n_epoch", 1, "--model.schedule.poly.warmup_steps", 1, "--report",
        "--data.masks.reduce_zero_label", "true", "--trainer.accelerator", "cpu",
    )  # fmt: skip
    run = tmp_path / "runs/segment_quickstart/version_0"
    found = report(run / "report")
    held_back = found["data"]["splits"]["val"]
    assert 1 <= held_back < 12
    assert list(found["per_class"]) != []
    assert found["curves"]["val/mIoU"]
    with (run / "metrics.csv").open(newline="") as file:
        [logged] = [row["val_ema/mIoU"] for row in csv.DictReader(file) if row["val_ema/mIoU"]]
    assert float(logged) == pytest.approx(found["weights"]["ema"]["mIoU"]["value"], abs=1e-6)
    capsys.readouterr()
    cli("evaluate", run / "checkpoints/best.ckpt", "--output", "all", *FAST)
    printed = capsys.readouterr().out
    assert f"The model was trained on {12 - held_back} of these 12 images" in printed
    assert report(tmp_path / "all")["data"]["splits"] == {"train": 12 - held_back, "val": held_back}
    # an exported file does not say what was held back; the checkpoint beside it does, in whatever order they come
    cli("export", run / "checkpoints/best.ckpt", "--format", "onnx", "--output", "own.onnx")
    for split, splits in (("val", {"val": held_back}), ("all", {"train": 12 - held_back, "val": held_back})):
        words = ("--data.root", "own", "--split", split, "--output", split, "--overwrite", *FAST)
        cli("evaluate", "own.onnx", run / "checkpoints/best.ckpt", *words)
        both = report(tmp_path / split)
        assert both["data"]["splits"] == splits
        difference = both["comparisons"][0]["aAcc_difference"]["value"]
        assert abs(difference) < 50 / np.array(both["confusion"]["matrix"]).sum()


@pytest.mark.slow
def test_what_is_refused(
    cli: Cli, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "classifier.ckpt", NAMES)
    words = ("a.ckpt", "--data.root", "data", *FAST)
    for option, value in (
        ("--explain", "3"),
        ("--method", "occlusion"),
        ("--data.batch_size", "4"),
        ("--predictions", "table.csv"),
        ("--model.name", "resnet18"),
        ("--data.manifest.path_column", "file"),
    ):
        message = refused(cli, capsys, *words, option, value)
        assert message == f"{option} is for classifiers, and a.ckpt is a segmentation model; leave it out."
    for option in ("--save_temperature", "--save_thresholds", "--common_classes"):
        assert refused(cli, capsys, *words, option).startswith(f"{option} is for classifiers, and a.ckpt is a")
    assert refused(cli, capsys, "classifier.ckpt", *words) == (
        "a.ckpt is a segmentation model, and classifier.ckpt is not; evaluate segmentation models alone."
    )
    message = refused(cli, capsys, "classifier.ckpt", "--data.root", "data", "--data.masks.kind", "index")
    assert message == "--data.masks.kind is for segmentation models, and none is evaluated; leave it out."
    message = refused(cli, capsys, "a.ckpt", *FAST)
    assert message == "No images were named; give a folder with --data.root."
    assert refused(cli, capsys, "a.ckpt", "--data.root", "data", "--split", "test").startswith(
        "data has no test split; it has train and val."
    )
    message = refused(cli, capsys, *words, "--data.masks.reduce_zero_label", "yes", code=2)
    assert message == "--data.masks.reduce_zero_label: 'yes' is neither true nor false."
    write_classes(data / "classes.csv", ["background", "cat", "horse"])
    assert refused(cli, capsys, *words).startswith(
        "The masks have classes that the checkpoint (or the given list of class names) does not have: horse."
    )
    save_segmenter(tmp_path / "others.ckpt", classes=["background", "cat", "horse", "cow"], seed=1)
    write_classes(data / "classes.csv", ["background", "cat", "dog"])
    assert refused(cli, capsys, "a.ckpt", "others.ckpt", "--data.root", "data", *FAST).startswith(
        "The masks have classes that the checkpoint (or the given list of class names) does not have: dog."
    )
    assert not (tmp_path / "report").exists()


def test_exported_files_are_compared_with_their_checkpoint(
    cli: Cli, segmenter_files: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(data / "classes.csv", CLASSES)
    files = [segmenter_files / name for name in ("segmenter.ckpt", "segmenter.onnx", "scores.onnx")]
    cli("evaluate", *files, "--data.root", "data", "--split", "val", *FAST)
    assert re.search(r"^\S+/segmenter\.onnx: mIoU 0\.\d{4} ", capsys.readouterr().out, re.MULTILINE)
    found = report(tmp_path / "report")
    labeled = np.array(found["confusion"]["matrix"]).sum()
    for one in found["comparisons"]:
        assert one["model"]["name"] == "inceptionnext_iso_micro"
        assert one["cost"]["file_bytes"] > 10_000
        for metric in ("mIoU", "mAcc", "aAcc"):  # a few pixels may be rounded to another class
            assert abs(one[f"{metric}_difference"]["value"]) < 50 / labeled
    classes, scores = found["comparisons"]
    assert classes["metrics"]["loss"]["value"] is None
    assert scores["metrics"]["loss"]["value"] == pytest.approx(found["metrics"]["loss"]["value"], rel=1e-3)
    cli("evaluate", files[1], "--data.root", "data", "--split", "val", "--output", "alone", *FAST)
    assert re.search("^loss +undefined$", capsys.readouterr().out, re.MULTILINE)
    alone = report(tmp_path / "alone")
    assert alone["metrics"]["aAcc"]["value"] == pytest.approx(classes["metrics"]["aAcc"]["value"], abs=1e-12)
    assert Path("alone/index.html").read_text().count("<img") >= 3 * len(alone["worst"][:1])
    assert "is a segmentation model; leave it out" in refused(cli, capsys, files[1], "--explain", "2", "--output", "c")


@pytest.mark.slow
def test_masks_and_images_that_are_unusual(
    cli: Cli, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = next((data / "masks/val").iterdir())
    height, width = np.asarray(Image.open(mask)).shape
    Image.fromarray(np.full((height, width), 255, dtype=np.uint8)).save(mask)
    for path in (data / "masks/val").iterdir():
        pixels = np.asarray(Image.open(path)).copy()
        pixels[pixels == 2] = 0
        Image.fromarray(pixels).save(path)
    cli("evaluate", "a.ckpt", "--data.root", "data", "--split", "val", *FAST)
    found = report(tmp_path / "report")
    assert found["data"]["images_without_labels"] == 1
    assert found["per_class"]["dog"]["pixels"] == 0
    assert found["per_class"]["dog"]["accuracy"] is None
    assert "Without pixels in the masks: dog." in (tmp_path / "report/index.html").read_text()
    rows = pyarrow.parquet.read_table(tmp_path / "report/per_image.parquet").to_pylist()
    assert [row["worst_class"] for row in rows].count(None) == 1
    # damaged after the header, which is all that is looked at before
    image = sorted((data / "images/val").iterdir())[2]
    image.write_bytes(image.read_bytes()[:-200])
    message = refused(cli, capsys, "a.ckpt", "--data.root", "data", "--split", "val", "--output", "r2", *FAST)
    assert message.startswith("1 image could not be evaluated; the metrics are of the others")
    assert report(tmp_path / "r2")["data"]["unreadable"][0]["path"] == f"data/images/val/{image.name}"
    assert report(tmp_path / "r2")["data"]["images"] == 6
    weights = torch.load("a.ckpt", weights_only=True)
    for name, tensor in weights["state_dict"].items():
        if "decoder" in name and name.endswith("weight"):
            tensor.mul_(1e30)
    torch.save(weights, "b.ckpt")
    message = refused(cli, capsys, "b.ckpt", "--data.root", "data", "--split", "train", "--output", "r3", *FAST)
    assert re.fullmatch(r"The model's outputs for data/.* are NaN or infinite; use another checkpoint\.", message)
    assert not (tmp_path / "r3").exists()
