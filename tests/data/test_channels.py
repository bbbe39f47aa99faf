"""Images that are not RGB: grey, RGBA, and any number of channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule, load_image
from inceptionnext_lit.errors import UserError
from tests.batches import finished


def test_grey(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (255, 0, 0)).save(tmp_path / "red.png")
    Image.fromarray(np.array([[0, 65535, 257 * 9]], dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("LA", (1, 1), (10, 0)).save(tmp_path / "clear.png")
    assert [(load_image(tmp_path / f"{n}.png", 1).mode, list(load_image(tmp_path / f"{n}.png", 1).tobytes()))
            for n in ("red", "deep", "clear")] == [("L", [76, 76]), ("L", [0, 255, 9]), ("L", [255])]  # fmt: skip


def test_rgba_keeps_alpha(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (9, 8, 7, 51)).save(tmp_path / "a.png")
    Image.new("L", (1, 1), 60).save(tmp_path / "b.png")
    Image.new("RGBA", (1, 1), (1, 2, 3, 4)).save(tmp_path / "c.tif")
    for name, expected in (("a.png", (9, 8, 7, 51)), ("b.png", (60, 60, 60, 255)), ("c.tif", (1, 2, 3, 4))):
        image = load_image(tmp_path / name, 4)
        assert (image.mode, image.getpixel((0, 0))) == ("RGBA", expected)


@pytest.mark.parametrize("layout", ["interleaved.tif", "planar.tif", "array.npy", "channels_first.npy"])
def test_any_number_of_channels(tmp_path: Path, layout: str) -> None:
    values = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5) * 500  # (C, H, W)
    path = tmp_path / layout
    if layout == "interleaved.tif":
        tifffile.imwrite(path, values.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig")
    elif layout == "planar.tif":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate")
    else:
        np.save(path, values if layout == "channels_first.npy" else values.transpose(1, 2, 0))
    image = load_image(path, 6)
    assert isinstance(image, Tensor)
    torch.testing.assert_close(image, torch.from_numpy(values.astype(np.float32) / 65535))


def test_near_infrared_is_not_taken_for_alpha(tmp_path: Path) -> None:
    values = np.full((3, 3, 4), (255, 51, 0, 102), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    image = load_image(tmp_path / "a.tif", 4)
    assert isinstance(image, Tensor)
    torch.testing.assert_close(image[:, 0, 0], torch.tensor([1.0, 0.2, 0.0, 0.4]))


def test_floats_come_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[-3.0], [0.5]]], dtype=np.float64))
    assert torch.equal(load_image(tmp_path / "a.npy", 1), torch.tensor([[[-3.0, 0.5]]]))


@pytest.mark.parametrize(
    ("array", "channels", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), 6, r"array of shape \(4, 5, 3\), not one of 6 channels \(data\.in_chans\)"),
        (np.full((4, 5, 2), np.nan), 2, r"values of type float64 are neither unsigned integers nor finite floats"),
        (np.zeros((4, 5, 2), np.int64), 2, r"values of type int64 are neither"),
        (np.array([{}]), 2, r"Cannot read the image .*a\.npy"),  # a pickle, which is never run
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: Any, channels: int, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=message):
        load_image(tmp_path / "a.npy", channels)


def test_a_picture_where_other_channels_are_asked_for(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"it is a picture of mode RGB, not one of 5 channels \(data\.in_chans\)"):
        load_image(tmp_path / "a.jpg", 5)


def folder(root: Path, channels: int) -> Path:
    for label, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for n in range(5):
            values = np.full((10, 12, channels), 100 * label + n, np.uint8)
            if channels in (1, 4):
                Image.fromarray(values.squeeze(), {1: "L", 4: "RGBA"}[channels]).save(root / name / f"{n}.png")
            else:
                np.save(root / name / f"{n}.npy", values)
    return root


@pytest.mark.parametrize("channels", [1, 4, 6])
@pytest.mark.parametrize("augmentation", ["none", "light", Augmentation(rand_augment_magnitude=None, color_jitter=0)])
def test_batches(tmp_path: Path, channels: int, augmentation: Any) -> None:
    data = ImageFolderDataModule(
        str(folder(tmp_path, channels)), in_chans=channels, image_size=8, batch_size=4, num_workers=0,
        augmentation=augmentation, std=[1.0] * channels, mean=[0.0] * channels,
    )  # fmt: skip
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        images, labels = finished(data, loader)[0]
        assert images.shape[1:] == (channels, 8, 8)
        if augmentation in ("none", "light"):
            torch.testing.assert_close((images[:, -1, 4, 4] * 255 + 0.5) // 100, labels.float(), rtol=0, atol=1e-4)


def test_normalisation_of_other_channels_is_imagenets_mean(tmp_path: Path) -> None:
    data = ImageFolderDataModule(str(tmp_path), in_chans=2)
    assert data.preprocessing["mean"] == [0.449] * 2
    assert data.preprocessing["std"] == [0.226] * 2


def test_colour_augmentation_of_other_channels_is_refused(tmp_path: Path) -> None:
    data = ImageFolderDataModule(str(folder(tmp_path, 6)), in_chans=6, augmentation="strong", num_workers=0)
    with pytest.raises(UserError, match=r"RandAugment and colour jitter are for RGB images, not for 6 channels"):
        data.setup("fit")
    with pytest.raises(UserError, match=r"data\.mean is \[0\.5\], but must be 2 numbers, one per channel"):
        ImageFolderDataModule(in_chans=2, mean=[0.5])
