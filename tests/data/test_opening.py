"""Files that may be opened: only listed formats, up to a limit of pixels, and no pipes."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from inceptionnext_lit.data import ImageFolderDataModule, load_image
from inceptionnext_lit.data.decode.bad_images import BadImageOptions
from inceptionnext_lit.data.decode.jpeg import open_jpeg
from inceptionnext_lit.data.decode.opening import FORMATS, identify
from inceptionnext_lit.errors import UserError
from tests.postscript import EPS, fake_ghostscript

# Pillow's other formats that can be written here, including those that call programs or parse text
UNREAD = ("EPS", "IM", "PCX", "TGA", "SGI", "XBM", "MSP", "DDS", "BLP", "PALM", "ICNS", "SPIDER")


def test_postscript_is_not_run_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = fake_ghostscript(tmp_path, monkeypatch)
    for name in ("photo.jpg", "photo.png", "photo.tif"):
        (tmp_path / name).write_bytes(EPS)
        for channels in (3, 1, 4, 5):
            with pytest.raises(UserError, match=rf"Cannot read the image .*{name}: "):
                load_image(tmp_path / name, channels)
    assert open_jpeg(str(tmp_path / "photo.jpg")) is None
    assert not mark.exists()
    with pytest.raises(UnidentifiedImageError):  # of what that program was to write: Pillow by itself calls it
        Image.open(tmp_path / "photo.jpg").load()
    assert mark.exists()


@pytest.mark.parametrize("format", UNREAD)
def test_other_formats_are_refused(tmp_path: Path, format: str) -> None:
    Image.init()  # all of them are known to Pillow
    mode = {"MSP": "1", "XBM": "1", "SPIDER": "F", "PALM": "P", "BLP": "P"}.get(format, "RGB")
    Image.new(mode, (16, 16)).save(tmp_path / "photo", format)
    (tmp_path / "photo").rename(tmp_path / "photo.jpg")  # with that name, SPIDER would register .jpg as its own suffix
    with pytest.raises(UserError, match=r"photo\.jpg: its content is not an image of a known format"):
        load_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("format", FORMATS)
def test_formats_that_are_read(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"  # the content tells
    image = Image.new("RGB", (32, 32), (200, 100, 50))
    image.save(path, format, **({"sizes": [(32, 32)]} if format == "ICO" else {}))
    assert np.abs(np.asarray(load_image(path)).astype(int) - (200, 100, 50)).max() <= 12


def icon_with_a_large_picture(path: Path) -> None:
    """An icon whose table says 16×16 pixels, and whose only picture has 500×400."""
    picture = io.BytesIO()
    Image.new("RGB", (500, 400)).save(picture, "PNG")
    table = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture.getvalue()), 22)
    path.write_bytes(table + picture.getvalue())


def test_more_pixels_than_allowed_are_refused_from_the_header(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif", "a.webp"):
        Image.new("RGB", (50, 40)).save(tmp_path / name)
        assert load_image(tmp_path / name, 3, 2000).size == (50, 40)
        with pytest.raises(UserError) as caught:
            load_image(tmp_path / name, 3, 1999)
        assert str(caught.value) == (
            f"Cannot read the image {tmp_path / name}: it has 50×40 pixels, more than "
            "data.bad_images.max_pixels allows (1,999). Shrink the image, or raise the limit."
        )
    assert open_jpeg(str(tmp_path / "a.jpg"), 2000) is not None
    assert open_jpeg(str(tmp_path / "a.jpg"), 1999) is None
    icon_with_a_large_picture(tmp_path / "a.ico")
    with pytest.raises(UserError, match="it has 500×400 pixels, more than"):
        load_image(tmp_path / "a.ico", 3, 1999)


def test_arrays_of_more_pixels_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((40, 50, 5), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((5, 40, 50), np.uint8))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((40, 50, 5), np.uint8), photometric="minisblack", planarconfig=1)
    for name in ("a.npy", "b.npy", "c.tif"):
        assert load_image(tmp_path / name, 5, 2000).shape == (5, 40, 50)
        with pytest.raises(
            UserError, match=r"it has 50×40 pixels, more than data\.bad_images\.max_pixels allows \(1,999\)"
        ):
            load_image(tmp_path / name, 5, 1999)


def test_an_array_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6, 5)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UserError, match=r"Cannot read the image .*a\.npy: "):  # without allocating 36 TiB first
        load_image(tmp_path / "a.npy", 5, 10**13)


def test_the_limit_can_be_raised_beyond_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    Image.new("L", (50, 40)).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        assert identify(file, 2000).size == (50, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UserError, match=r"it has more pixels than data\.bad_images\.max_pixels allows \(900\)"):
        load_image(tmp_path / "a.png", 3, 900)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.npy", "a.tif"):
        os.mkfifo(tmp_path / name)
        for channels in (3, 5):
            with pytest.raises(UserError, match=rf"{name}: it is not a regular file"):
                load_image(tmp_path / name, channels)
    assert open_jpeg(str(tmp_path / "a.jpg")) is None


def test_tiffs_open_no_other_files(tmp_path: Path) -> None:
    """OME-TIFFs may name other files as their channels."""
    tifffile.imwrite(tmp_path / "other.ome.tif", np.full((2, 8, 8), 9, np.uint8), metadata={"axes": "CYX"})
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" SizeC="2" SizeZ="1" SizeT="1"><TiffData IFD="0" '
        'FirstC="0" PlaneCount="2"><UUID FileName="other.ome.tif">urn:uuid:0</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", np.full((8, 8), 7, np.uint8), description=xml, metadata=None)
    with pytest.raises(UserError, match=r"it is an array of shape \(8, 8\), not one of 2 channels"):
        load_image(tmp_path / "a.ome.tif", 2)
    assert load_image(tmp_path / "other.ome.tif", 2).shape == (2, 8, 8)


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
def test_the_data_module_has_the_limit(tmp_path: Path, on_bad_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (8, 8), (25 * number, 0, 0)).save(tmp_path / name / f"{number}.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "a/large.png")
    data = ImageFolderDataModule(
        str(tmp_path),
        image_size=8,
        batch_size=1,
        num_workers=0,
        bad_images=BadImageOptions(max_pixels=8000, action=on_bad_image),
    )
    words = r"large\.png: it has 90×90 pixels, more than data\.bad_images\.max_pixels allows \(8,000\)"
    if on_bad_image == "error":
        with pytest.raises(UserError, match=words):
            data.setup("fit")
    else:
        data.setup("fit")
        with pytest.warns(UserWarning, match=words):
            assert len(list(data.train_dataloader())) == len(data.train_set)
    data.setup("predict")
    unreadable = [pair for batch in data.predict_dataloader() for pair in batch.unreadable]
    assert unreadable == [
        (str(tmp_path / "a/large.png"), "it has 90×90 pixels, more than data.bad_images.max_pixels allows (8,000)")
    ]
    with pytest.raises(UserError, match=r"data\.bad_images\.max_pixels is 0, but must be 1 pixel or more"):
        ImageFolderDataModule(bad_images=BadImageOptions(max_pixels=0))
