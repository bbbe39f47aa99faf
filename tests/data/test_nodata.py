"""Pixels without data, and floats out of range."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from inceptionnext_lit.data import ImageFolderDataModule, load_image
from inceptionnext_lit.data.decode.arrays import GDAL_NODATA, parse_nodata
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.errors import UserError
from tests.batches import finished

LEAST = float(np.finfo(np.float32).min)


def write(path: Path, values: np.ndarray, tag: str | None = None, **options: Any) -> Path:
    """Write a TIFF as GDAL does, with its tag for no data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = [] if tag is None else [(GDAL_NODATA, "s", 0, tag, True)]
    tifffile.imwrite(path, values, extratags=tags, metadata=None, **({"planarconfig": "contig"} | options))
    return path


@pytest.mark.parametrize(
    ("dtype", "value", "tag"),
    [
        (np.float32, LEAST, "-3.4028234663852886e+38"),
        (np.float32, LEAST, "-3.40282346639e+38"),  # as older tools round it
        (np.float32, math.nan, "nan"),
        (np.float64, -9999, "-9999"),
        (np.uint16, 0, "0"),
        (np.uint8, 255, "255\0"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_no_data_shows_the_fill(tmp_path: Path, dtype: Any, value: float, tag: str, own: bool) -> None:
    values = np.full((4, 5, 5), 0.5 if np.dtype(dtype).kind == "f" else 100, dtype)
    values[0, 0] = value
    values[1, 1, 2] = value
    path = write(tmp_path / "a.tif", values, tag if own else None, photometric="minisblack")
    fill = [0.1, 0.2, 0.3, 0.4, 0.6]
    image = load_image(path, 5, nodata=None if own else value, fill=fill)
    other = 0.5 if np.dtype(dtype).kind == "f" else 100 / np.iinfo(dtype).max
    expected = torch.full((5, 4, 5), other)
    expected[:, 0, 0] = torch.tensor(fill)
    expected[2, 1, 1] = fill[2]
    torch.testing.assert_close(image, expected)


def test_a_tag_that_fits_no_value(tmp_path: Path) -> None:
    values = np.full((4, 5, 5), 7, np.uint8)
    for tag in ("-9999", "1e400", "none", "nan"):
        path = write(tmp_path / "a.tif", values, tag, photometric="minisblack")
        assert torch.equal(load_image(path, 5), torch.full((5, 4, 5), 7 / 255))
    assert (parse_nodata(None), parse_nodata("-1.5 "), parse_nodata(b"x")) == (None, -1.5, None)


def test_values_that_are_not_finite_are_refused_without_a_tag(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1e300, 0.5]]))  # not finite in 32 bits
    with pytest.raises(
        UserError, match=r"some of its values of type float64 are not finite floats \(see data\.input\.nodata\)"
    ):
        load_image(tmp_path / "a.npy", 1)
    assert torch.equal(load_image(tmp_path / "a.npy", 1, nodata=1e300, fill=[0.25]), torch.tensor([[[0.25, 0.5]]]))


def test_pictures_show_the_fill_where_all_colors_are_no_data(tmp_path: Path) -> None:
    values = np.full((2, 3, 3), 200, np.uint8)
    values[0, 0] = 0
    values[1, 1] = 0, 0, 9
    path = write(tmp_path / "a.tif", values, "0", photometric="rgb")
    image = load_image(path, fill=[0.4, 0.2, 0.6])
    assert [image.getpixel(place) for place in ((0, 0), (1, 1), (2, 1))] == [(102, 51, 153), (0, 0, 9), (200, 200, 200)]
    assert load_image(path, 1, fill=[0.4]).getpixel((0, 0)) == 102
    gray = Image.fromarray(np.array([[0, 65535], [257, 0]], np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, the left column becomes the top row, from below
    gray.save(tmp_path / "b.png", exif=exif)
    turned = load_image(tmp_path / "b.png", 1, nodata=257, fill=[0.4])
    assert list(turned.tobytes()) == [102, 0, 0, 255]


def folder(root: Path, fill: float, odd: float, dtype: Any = np.float32) -> Path:
    for name in "ab":
        for number in range(5):
            values = np.full((8, 8, 5), fill, dtype)
            values[:2, :2] = odd
            options = {"photometric": "minisblack", "description": f"{name}{number}"}  # otherwise they would be copies
            write(root / name / f"{number}.tif", values, "-9999", **options)
    return root


@pytest.mark.parametrize("stage", ["fit", "validate", "predict"])
def test_no_data_becomes_zero_in_batches_with_one_warning(tmp_path: Path, stage: str) -> None:
    data = ImageFolderDataModule(
        str(folder(tmp_path, 0.5, -9999)), in_chans=5, image_size=8, num_workers=0, input=InputOptions(crop_pct=1.0),
        augmentation="none", batch_size=2,
    )  # fmt: skip
    with pytest.warns(UserWarning) as warned:  # noqa: PT030 - its text is compared below
        data.setup(stage)
    paths = {"fit": lambda: data.train_set.samples.paths, "predict": lambda: data.predict_set.paths}
    path = paths.get(stage, lambda: data.val_set.samples.paths)()[0]
    files = "2 of the 2" if stage == "validate" else "10 of the 10"
    assert [str(warning.message) for warning in warned] == [
        f"{files} arrays and TIFFs that were checked mark pixels without data, such as {path} with -9999; "
        "they become 0 after normalization."
    ]
    loader = data.predict_dataloader() if stage == "predict" else data.val_dataloader()
    images = finished(data, loader)[0][0]
    assert torch.equal(images[:, :, 0, 0], torch.zeros(2, 5))
    torch.testing.assert_close(images[:, :, 5, 5], torch.full((2, 5), (0.5 - 0.449) / 0.226))


def test_floats_out_of_range_are_a_warning_with_the_numbers(tmp_path: Path) -> None:
    root = str(folder(tmp_path, 3400, -12.5))
    settings: dict[str, Any] = {"in_chans": 5, "image_size": 8, "num_workers": 0, "batch_size": 2}
    with pytest.warns(
        UserWarning, match=r"contain floats from -12\.5 to 3400, such as .*\.tif; .* \(0\.449, .*0\.226\) do"
    ):
        ImageFolderDataModule(root, **settings).setup("fit")
    with pytest.warns(UserWarning, match=r"contain floats from -12\.5 to 3400"):
        ImageFolderDataModule(root, **settings, input=InputOptions(mean=[0.5] * 5, std=[0.1] * 5)).setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageFolderDataModule(root, **settings, input=InputOptions(mean=[3000.0] * 5, std=[500.0] * 5)).setup("fit")
        ImageFolderDataModule(str(folder(tmp_path / "fine", 1, 0)), **settings).setup("fit")
        ImageFolderDataModule(str(folder(tmp_path / "whole", 9, 200, np.uint8)), **settings).setup("fit")
