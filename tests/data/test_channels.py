"""Images other than RGB: grayscale, RGBA, and any number of channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule, load_image
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.errors import UserError
from tests.batches import finished


def test_grayscale(tmp_path: Path) -> None:
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


def test_near_infrared_is_not_mistaken_for_alpha(tmp_path: Path) -> None:
    values = np.full((3, 3, 4), (255, 51, 0, 102), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    image = load_image(tmp_path / "a.tif", 4)
    assert isinstance(image, Tensor)
    torch.testing.assert_close(image[:, 0, 0], torch.tensor([1.0, 0.2, 0.0, 0.4]))


def test_floats_are_not_scaled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[-3.0], [0.5]]], dtype=np.float64))
    assert torch.equal(load_image(tmp_path / "a.npy", 1), torch.tensor([[[-3.0, 0.5]]]))


@pytest.mark.parametrize(
    ("array", "channels", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), 6, r"array of shape \(4, 5, 3\), not one of 6 channels \(data\.in_chans\)"),
        (
            np.full((4, 5, 2), np.nan),
            2,
            r"some of its values of type float64 are not finite floats \(see data\.input\.nodata\)",
        ),
        (np.zeros((4, 5, 2), np.int64), 2, r"values of type int64 are neither"),
        (np.array([{}]), 2, r"Cannot read the image .*a\.npy"),  # a pickle, which is never run
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, array: Any, channels: int, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=message):
        load_image(tmp_path / "a.npy", channels)


def test_a_picture_with_other_channels_than_requested(tmp_path: Path) -> None:
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
        augmentation=augmentation, input=InputOptions(std=[1.0] * channels, mean=[0.0] * channels),
    )  # fmt: skip
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        images, labels = finished(data, loader)[0]
        assert images.shape[1:] == (channels, 8, 8)
        if augmentation in ("none", "light"):
            torch.testing.assert_close((images[:, -1, 4, 4] * 255 + 0.5) // 100, labels.float(), rtol=0, atol=1e-4)


def test_normalization_of_other_channels_is_imagenets_mean(tmp_path: Path) -> None:
    data = ImageFolderDataModule(str(tmp_path), in_chans=2)
    assert data.preprocessing["mean"] == [0.449] * 2
    assert data.preprocessing["std"] == [0.226] * 2


def test_color_augmentation_of_other_channels_is_turned_off_with_a_warning(tmp_path: Path) -> None:
    data = ImageFolderDataModule(
        str(folder(tmp_path, 6)), in_chans=6, augmentation="strong", num_workers=0, batch_size=2
    )
    with pytest.warns(UserWarning, match="these have 6 channels: RandAugment and color jitter"):
        data.setup("fit")
    assert len(data.train_set[0].pixels) == 6
    with pytest.raises(UserError, match=r"data\.input\.mean is \[0\.5\], but must be 2 numbers, one per channel"):
        ImageFolderDataModule(in_chans=2, input=InputOptions(mean=[0.5]))


def test_color_tiffs_become_grayscale_and_opaque_as_other_pictures_do(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (255, 0, 0)).save(tmp_path / "red.tif")
    Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    assert [list(load_image(tmp_path / name, 1).tobytes()) for name in ("red.tif", "print.tif")] == [[76, 76]] * 2
    assert load_image(tmp_path / "red.tif", 4).getpixel((0, 0)) == (255, 0, 0, 255)


def test_a_float_tiff_of_one_channel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0.25, 3.5]], np.float32))
    assert torch.equal(load_image(tmp_path / "a.tif", 1), torch.tensor([[[0.25, 3.5]]]))


def test_pages_as_channels(tmp_path: Path) -> None:
    values = np.arange(4 * 6 * 7, dtype=np.uint8).reshape(4, 6, 7)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    torch.testing.assert_close(load_image(tmp_path / "a.tif", 4), torch.from_numpy(values / np.float32(255)))
    assert load_image(tmp_path / "a.tif", 1).size == (7, 6)  # the first page


def test_a_compression_that_requires_a_package_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tif", compression="tiff_lzw")

    def refuse(page: tifffile.TiffPage) -> None:
        raise ValueError(f"{page.compression!r} requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    with pytest.raises(UserError, match=r"a\.tif: its compression LZW can be read after: pip install imagecodecs"):
        load_image(tmp_path / "a.tif", 5)


def test_a_file_that_is_not_a_tiff(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no picture")
    with pytest.raises(UserError, match=r"a\.tif: its content is not an image of a known format"):
        load_image(tmp_path / "a.tif", 5)
