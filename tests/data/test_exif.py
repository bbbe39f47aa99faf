"""The EXIF orientation is applied, or ignored as in the authors' loaders, by every decoder."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_classifier
from inceptionnext_lit.data import ImageFolderDataModule, load_image
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.transforms.augmentation import Augmentation
from tests.recipes import SMALL


def turned(path: Path, **options: object) -> Path:
    """Write a picture that is stored with black on the left and white on the right, with a rotation by 90 degrees."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_a_file(tmp_path: Path, ending: str) -> None:
    """TIFFs are rotated by Pillow itself, also in the authors' loaders."""
    path = turned(tmp_path / f"a{ending}")
    assert load_image(path).size == (40, 60)
    stored = load_image(path, apply_exif=False)
    assert stored.size == (60, 40)
    assert stored.getpixel((5, 20)) < (9, 9, 9)
    assert stored.getpixel((55, 20)) > (246, 246, 246)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_training_and_evaluation(tmp_path: Path, ending: str) -> None:
    """White is below if the orientation is applied, and on the right if it is ignored; JPEGs use the fast decoder."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            turned(tmp_path / split / name / f"1{ending}")
    augmentation = Augmentation(scale=(0.9, 1.0), hflip=0, color_jitter=0, rand_augment_magnitude=None, erasing=0)
    for exif, brighter in (("apply", (slice(20, 32), slice(None))), ("ignore", (slice(None), slice(20, 32)))):
        data = ImageFolderDataModule(
            str(tmp_path),
            image_size=32,
            num_workers=0,
            batch_size=2,
            input=InputOptions(exif=exif, crop_pct=1.0),
            augmentation=augmentation,
        )
        data.setup("fit")
        for dataset in (data.train_set, data.val_set):
            pixels = dataset[0].pixels.float()
            whole, part = pixels.mean(), pixels[(slice(None), *brighter)].mean()
            assert part > whole + 60


@pytest.mark.slow
def test_a_checkpoint_sets_it_for_evaluations_but_not_for_predictions(
    cli: Callable[..., None], make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    cli(
        "fit",
        *SMALL,
        "--data.root",
        root,
        "--data.batch_size",
        6,
        "--trainer.max_epochs",
        1,
        "--data.input.exif",
        "ignore",
    )
    path = tmp_path / "runs/quickstart/version_0/checkpoints/best.ckpt"
    assert torch.load(path, weights_only=True)["hyper_parameters"]["data_spec"]["preprocessing"]["exif"] == "ignore"
    cli("validate", "--data.root", root, "--ckpt_path", path)
    assert torch.load(path, weights_only=True)["run"]["data.input.exif"] == "ignore"
    picture = turned(tmp_path / "new.png")
    classify = load_classifier(path)
    with Image.open(picture) as image:
        stored = Image.fromarray(np.asarray(image))
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    shown, right, wrong = (classify.predict(one)[0].probability for one in (picture, upright, stored))
    assert shown == right != wrong
    for words, expected in (([], right), (["--data.input.exif", "ignore"], wrong)):
        cli("predict", picture, "--ckpt_path", path, "--output", tmp_path / "out.csv", "--overwrite", *words)
        with (tmp_path / "out.csv").open() as file:
            [row] = csv.DictReader(file)
        assert float(row["probability"]) == pytest.approx(expected, abs=1e-4)
