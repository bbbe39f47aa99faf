"""Masks that ``predict`` writes with a segmentation model: their pixels, rows, names, continuation and polygons."""

import contextlib
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit.data import SegmentationDataModule
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.scenes import pictures
from inceptionnext_lit.predict.scenes.names import MaskNames
from inceptionnext_lit.predict.writer import SceneWriter
from inceptionnext_lit.tasks.segmentation.inference import Best, Inference
from tests.small_checkpoint import save_checkpoint
from tests.small_segmenter import CLASSES, INPUT, PALETTE, save_segmenter

Cli = Callable[..., None]
SIZES = [(50, 70), (64, 64), (33, 90), (7, 200), (96, 31)]  # height and width


def picture(seed: int, height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (max(1, height // 8), width // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photos; the last is stored on its side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for place, (height, width) in enumerate(SIZES[:4]):
        picture(place, height, width).save(folder / f"{place}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90°
    picture(4, 31, 96).save(folder / "4.jpg", exif=exif)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_segmenter(tmp_path / "best.ckpt", ema_decay=0.9)
    return tmp_path / "best.ckpt"


def expected_scores(checkpoint: Path, photo: Path) -> torch.Tensor:
    """The probabilities (K, H, W), written plainly."""
    from inceptionnext_lit.tasks.loading import load_segmentation_task

    model = load_segmentation_task(checkpoint)[0].eval().model
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB").rotate(-90, expand=True) if photo.suffix == ".jpg" else image)
    ready = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.25
    with torch.inference_mode():
        logits = model(ready[None])
        whole = torch.nn.functional.interpolate(logits, pixels.shape[:2], mode="bilinear", align_corners=False)
    return whole[0].softmax(dim=0)


@contextlib.contextmanager
def refused(capsys: pytest.CaptureFixture[str], message: str) -> Iterator[None]:
    with pytest.raises(SystemExit):
        yield
    assert re.search(message, capsys.readouterr().err)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_masks_overlays_and_rows(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    cli("predict", photos, "--ckpt_path", checkpoint, "--output", "out/seen.csv", "--data.num_workers", 0)
    found = rows(tmp_path / "out/seen.csv")
    assert list(found[0]) == ["path", "mask", "confidence", *(f"area_{name}" for name in CLASSES)]
    assert [Path(row["path"]).name for row in found] == ["0.png", "1.png", "2.png", "3.png", "4.jpg"]
    classes = set()
    for row, size in zip(found, SIZES, strict=True):
        scores = expected_scores(checkpoint, Path(row["path"]))
        best, indices = scores.max(dim=0)
        with Image.open(tmp_path / "out" / row["mask"]) as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[:9] == [level for color in PALETTE for level in color]
            values = np.asarray(mask)
        assert values.shape == size
        assert (values == indices.numpy()).mean() > 0.999  # the inference form rounds differently
        shares = [float(row[f"area_{name}"]) for name in CLASSES]
        assert shares == pytest.approx([float((values == k).mean()) for k in range(3)], abs=1e-6)
        assert float(row["confidence"]) == pytest.approx(float(best.mean()), abs=1e-4)
        classes |= set(np.unique(values).tolist())
        overlay = tmp_path / "out/seen/overlays" / Path(row["mask"]).with_suffix(".jpg").name
        with Image.open(overlay) as image:
            assert image.size == (size[1], size[0])
    assert len(classes) > 1
    assert float(found[0]["confidence"]) > 0.36


def test_overlays_show_the_image_under_the_background(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    cli("predict", photos / "1.png", "--ckpt_path", checkpoint, "--data.num_workers", 0)
    values = np.asarray(Image.open(tmp_path / "predictions/masks/1.png"))
    overlay = np.asarray(Image.open(tmp_path / "predictions/overlays/1.jpg"), dtype=float)
    image = np.asarray(Image.open(photos / "1.png"), dtype=float)
    assert len(np.unique(values)) > 1
    colored = 0.45 * image + 0.55 * np.array(PALETTE)[values]
    mixed = np.where(values[..., None] == 0, image, colored).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(mixed).save(file, "JPEG", quality=pictures._QUALITY, subsampling=0)
    assert np.abs(overlay - np.asarray(Image.open(file), dtype=float)).mean() < 2


@pytest.mark.parametrize("suffix", [".jsonl", pytest.param(".json"), pytest.param(".parquet")])
def test_formats(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    words = ("predict", photos / "0.png", photos / "1.png", "--ckpt_path", checkpoint, "--overlays", "false")
    cli(*words, "--data.num_workers", 0, "--unsure_below", 0.45)
    cli(*words, "--data.num_workers", 0, "--unsure_below", 0.45, "--output", f"other{suffix}")
    table = rows(tmp_path / "predictions.csv")
    file = tmp_path / f"other{suffix}"
    if suffix == ".parquet":
        from pyarrow import parquet

        found = parquet.read_table(file).to_pylist()
        areas = [{name: row[f"area_{name}"] for name in CLASSES} for row in found]
    else:
        text = file.read_text()
        found = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        assert list(found[0]) == ["path", "mask", "confidence", "unsure", "areas"]
        areas = [row["areas"] for row in found]
    assert [row["mask"] for row in found] == ["other/masks/0.png", "other/masks/1.png"]
    assert [row["unsure"] for row in found] == [row["unsure"] == "true" for row in table]
    assert [row["confidence"] for row in found] == [float(row["confidence"]) for row in table]
    assert areas == [{name: float(row[f"area_{name}"]) for name in CLASSES} for row in table]
    assert not (tmp_path / "other/overlays").exists()


def test_a_run_is_continued(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    words = ("predict", "photos", "--ckpt_path", checkpoint, "--data.num_workers", 0, "--data.batch_size", 1)
    cli(*words, "--output", "whole.csv")
    cli("predict", "photos/0.png", "photos/3.png", *words[2:], "--output", "parts.csv")
    before = (tmp_path / "parts/masks/0.png").stat().st_mtime_ns
    picture(9, 40, 40).save(photos / "0.jpg")  # which would get the name of an earlier mask
    cli(*words, "--output", "parts.csv", "--resume", "--polygons")
    parts, whole = rows(tmp_path / "parts.csv"), rows(tmp_path / "whole.csv")
    assert [row["path"] for row in parts] == [
        *("photos/0.png", "photos/3.png"),
        *("photos/0.jpg", "photos/1.png", "photos/2.png", "photos/4.jpg"),
    ]
    assert parts[2]["mask"] == "parts/masks/0_2.png"
    assert (tmp_path / "parts/masks/0.png").stat().st_mtime_ns == before
    same = {row["path"]: row | {"mask": row["mask"].replace("parts/", "whole/")} for row in parts}
    assert [same[row["path"]] for row in whole] == whole
    for row in whole:
        parts_mask = tmp_path / same[row["path"]]["mask"].replace("whole/", "parts/")
        assert parts_mask.read_bytes() == (tmp_path / row["mask"]).read_bytes()
    assert len(json.loads((tmp_path / "parts/polygons.json").read_text())["images"]) == 6


def test_what_cannot_be_continued(
    cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", photos, "--data.num_workers", 0, "--output", "o.csv", "--ckpt_path")
    cli("predict", photos / "0.png", *words[2:], checkpoint)
    with refused(capsys, "already exists; add --resume"):
        cli(*words, checkpoint)
    save_segmenter(tmp_path / "other.ckpt", seed=5)
    with refused(capsys, r"started with another checkpoint or other settings: .*0\.png has"):
        cli(*words, tmp_path / "other.ckpt", "--resume")
    save_segmenter(tmp_path / "classes.ckpt", classes=["background", "cat", "bird"])
    with refused(capsys, r"o\.csv has the areas of other classes"):
        cli(*words, tmp_path / "classes.ckpt", "--resume")
    with refused(capsys, "was started without --unsure_below"):
        cli(*words, checkpoint, "--resume", "--unsure_below", 0.5)
    assert len(rows(tmp_path / "o.csv")) == 1
    (tmp_path / "o/masks/0.png").unlink()
    with refused(capsys, r"has a row for .*0\.png, but its mask o/masks/0\.png is missing"):
        cli(*words, checkpoint, "--resume")


def test_masks_of_an_earlier_run_do_not_stay(
    cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--ckpt_path", checkpoint, "--data.num_workers", 0)
    cli("predict", photos / "0.png", *words)
    (tmp_path / "predictions.csv").unlink()
    with refused(capsys, "predictions already has masks; add --resume"):
        cli("predict", photos / "1.png", *words)
    cli("predict", photos / "1.png", *words, "--overwrite")
    assert [path.name for path in (tmp_path / "predictions/masks").iterdir()] == ["1.png"]
    assert [path.name for path in (tmp_path / "predictions/overlays").iterdir()] == ["1.jpg"]
    (tmp_path / "predictions/masks/notes.txt").write_text("mine")
    with refused(capsys, r"notes\.txt is not a file of predict"):
        cli("predict", photos / "1.png", *words, "--overwrite")
    assert (tmp_path / "predictions/masks/notes.txt").read_text() == "mine"
    assert (tmp_path / "predictions/masks/1.png").is_file()


def test_polygons_give_the_masks_again(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    cli("predict", photos, "--ckpt_path", checkpoint, "--polygons", "found/outlines.json", "--data.num_workers", 0)
    coco = json.loads((tmp_path / "found/outlines.json").read_text())
    assert [one["name"] for one in coco["categories"]] == CLASSES[1:]
    masks = {
        Path(row["path"]).name: np.asarray(Image.open(tmp_path / row["mask"]))
        for row in rows(tmp_path / "predictions.csv")
    }
    for one in coco["categories"]:
        areas = sum(a["area"] for a in coco["annotations"] if a["category_id"] == one["id"])
        assert areas == sum(int((mask == one["id"]).sum()) for mask in masks.values())
    for entry in coco["images"]:
        entry["file_name"] = Path(entry["file_name"]).name
        assert masks[entry["file_name"]].shape == (entry["height"], entry["width"])
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "annotations.json").write_text(json.dumps(coco))
    module = SegmentationDataModule(str(data), crop_size=32, batch_size=2, num_workers=0)
    module.prepare_data()
    module.setup("fit")
    assert module.classes == CLASSES
    drawn = {
        Path(path).name: mask.numpy() for part in (module.train_set, module.val_set) for path, mask in _masks(part)
    }
    assert drawn.keys() == masks.keys()
    for name, mask in masks.items():
        assert np.array_equal(drawn[name], mask), name


def _masks(part: Any) -> list[tuple[str, torch.Tensor]]:
    paths = list(part.samples.paths)
    return [(path, torch.from_numpy(part.scheme.read(part.masks[place]))) for place, path in enumerate(paths)]


def test_options_of_the_other_kind_of_model(
    cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with refused(capsys, "--probabilities is for classifiers"):
        cli("predict", photos, "--ckpt_path", checkpoint, "--probabilities", "all")
    with refused(capsys, r"--polygons is p\.txt; it must end in \.json"):
        cli("predict", photos, "--ckpt_path", checkpoint, "--polygons", "p.txt")
    save_checkpoint(tmp_path / "c.ckpt", ["cat", "dog"])
    for option in (("--polygons",), ("--overlays", "false")):
        with refused(capsys, f"{option[0]} is for segmentation models"):
            cli("predict", photos, "--ckpt_path", tmp_path / "c.ckpt", *option)


def test_unreadable_and_not_finite(
    cli: Cli,
    photos: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "0.png").write_bytes(b"no image")
    lost = Best(torch.zeros(8, 8, dtype=torch.int64), torch.full((8, 8), torch.nan))
    monkeypatch.setattr(Inference, "best", lambda *args: lost)
    with refused(capsys, "None of 5 images got a prediction"):
        cli("predict", photos, "--ckpt_path", checkpoint, "--data.num_workers", 0)
    listed = {Path(row["path"]).name: row["reason"] for row in rows(tmp_path / "predictions.unreadable.csv")}
    assert listed.pop("0.png") != listed["1.png"]
    assert set(listed.values()) == {"the model's outputs for it are NaN or infinite"}
    assert not (tmp_path / "predictions/masks").exists()


def test_names_of_masks() -> None:
    paths = ["a/x.jpg", "a/b/x.jpg", "a/y.JPG", "a/y.png", "a/Z.png", "a/z.jpg"]
    names = MaskNames(paths)
    assert [names[path] for path in paths] == ["x.png", "b/x.png", "y.JPG.png", "y.png.png", "Z.png.png", "z.jpg.png"]
    assert MaskNames(["a/x.jpg"], taken=["x.png", "x_2.png"])["a/x.jpg"] == "x_3.png"
    assert MaskNames(["/q/1/x.jpg", "/q/2/x.jpg"])["/q/2/x.jpg"] == "2/x.png"


def test_in_python_without_the_command_line(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    from lightning.pytorch import Trainer

    from inceptionnext_lit.data.input_format import InputOptions
    from inceptionnext_lit.tasks.loading import load_segmentation_task

    data = SegmentationDataModule(
        str(photos), class_names=CLASSES, num_workers=0, input=InputOptions(mean=INPUT["mean"], std=INPUT["std"])
    )
    writer = SceneWriter(str(tmp_path / "o.jsonl"), overlays=False)
    Trainer(accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False).predict(
        load_segmentation_task(checkpoint)[0], data
    )
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == len(list((tmp_path / "o/masks").iterdir())) == 5
    with pytest.raises(UserError, match="already exists"):
        SceneWriter(str(tmp_path / "o.jsonl"))


def test_an_image_that_is_too_small_does_not_stop_the_others(
    cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (1, 1)).save(photos / "tiny.png")
    cli("predict", photos, "--ckpt_path", checkpoint, "--data.num_workers", 0)
    assert len(rows(tmp_path / "predictions.csv")) == 5
    [lost] = rows(tmp_path / "predictions.unreadable.csv")
    assert Path(lost["path"]).name == "tiny.png"
    assert "1×1 pixels is too small" in lost["reason"]


def test_long_names_are_shortened(cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    name = "w" * 250 + ".png"
    (photos / "0.png").rename(photos / name)
    cli("predict", photos / name, "--ckpt_path", checkpoint, "--data.num_workers", 0)
    [row] = rows(tmp_path / "predictions.csv")
    assert (tmp_path / row["mask"]).is_file()
    assert len(Path(row["mask"]).name) < 210
    names = MaskNames([f"{'w' * 250}{n}.png" for n in range(2)])
    assert names["w" * 250 + "0.png"] != names["w" * 250 + "1.png"]


def test_masks_are_not_taken_for_images(
    cli: Cli, photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--ckpt_path", checkpoint, "--data.num_workers", 0)
    with refused(capsys, r"--output photos\.csv would write its masks among the images, into photos/masks"):
        cli("predict", "photos", *words, "--output", "photos.csv")
    assert not (photos / "masks").exists()
    for overwrite in ((), ("--overwrite",)):
        cli("predict", "photos", *words, "--output", "photos/found.csv", *overwrite)
        assert len(rows(photos / "found.csv")) == 5
    assert "Ignored:    10 masks and overlays in photos/found" in capsys.readouterr().out
