"""Files whose names do not show their format."""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from inceptionnext_lit.data import ImageFolderDataModule, load_image
from inceptionnext_lit.data.decode.opening import FORMATS, has_image_signature
from inceptionnext_lit.data.sources import files
from inceptionnext_lit.data.sources.files import IMAGE_SUFFIXES, is_image_file, list_images
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.errors import UserError

COLOR = (200, 100, 50)


def save_heif(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    pillow_heif.from_pillow(Image.new("RGB", size, COLOR)).save(str(path), quality=95)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_without_an_ending_is_found_by_its_content(tmp_path: Path, format: str) -> None:
    Image.new("RGB", (32, 32), COLOR).save(
        tmp_path / "0a1b2c", format, **({"sizes": [(32, 32)]} if format == "ICO" else {})
    )
    assert has_image_signature(tmp_path / "0a1b2c")
    assert list_images(tmp_path) == [str(tmp_path / "0a1b2c")]
    assert resolve_inputs([str(tmp_path / "*")]) == [str(tmp_path / "0a1b2c")]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"P1", b"P5 is a town", b"BM and so on, a text of forty signs or more", b"README of the data set\n",
        b"label,path\ncat,1.jpg\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x00\x00\x01\x00", b"RIFF....WAVEfmt ",
        b"\x00\x00\x00\x20ftypisom....", b"\x00" * 64,
    ],
    ids=repr,
)  # fmt: skip
def test_other_files_without_an_ending_are_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "LICENSE").write_bytes(content)
    assert list_images(tmp_path) == []
    assert not is_image_file(str(tmp_path / "LICENSE"))


def test_only_names_without_an_ending_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.txt", "c.jpg.part", "d", ".hidden"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    os.mkfifo(tmp_path / "pipe")
    opened = []

    def note(path: str) -> bool:
        opened.append(os.path.basename(path))
        return has_image_signature(path)

    monkeypatch.setattr(files, "has_image_signature", note)
    assert [os.path.basename(path) for path in list_images(tmp_path)] == ["a.png", "d"]
    assert sorted(opened) == ["d", "pipe"]


def test_training_on_files_without_an_ending(tmp_path: Path) -> None:
    for label, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (8, 8), (100 * label, number, 0)).save(tmp_path / name / f"{number:032x}", "JPEG")
    data = ImageFolderDataModule(str(tmp_path), image_size=8, num_workers=0, batch_size=2)
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (8, 2)


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.ico", "ICO"), ("a.jp2", "JPEG2000"), ("a.j2k", "JPEG2000"), ("a.mpo", "JPEG"), ("a.apng", "PNG")],
)
def test_more_endings_are_read(tmp_path: Path, name: str, format: str) -> None:
    Image.new("RGB", (32, 32), COLOR).save(
        tmp_path / name, format, **({"sizes": [(32, 32)]} if format == "ICO" else {})
    )
    (path,) = list_images(tmp_path)
    assert np.abs(np.asarray(load_image(path)).astype(int) - COLOR).max() <= 2


def test_the_largest_picture_of_an_icon_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), COLOR).save(tmp_path / "a.ico", sizes=[(16, 16), (64, 64), (32, 32)])
    assert load_image(tmp_path / "a.ico").size == (64, 64)


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.hif", "a", "a.jpg"])
def test_heic_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = save_heif(tmp_path / name)
    assert list_images(tmp_path) == [str(path)]
    image = load_image(path)
    assert image.size == (64, 48)
    assert np.abs(np.asarray(image).astype(int) - COLOR).max() <= 4
    with pytest.raises(
        UserError, match=r"it has 64×48 pixels, more than data\.bad_images\.max_pixels allows \(3,000\)"
    ):
        load_image(path, 3, 3000)


def test_heic_without_the_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_heif(tmp_path / "a.heic")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"it is a HEIC picture, which can be read after: pip install pillow-heif"):
        load_image(path)
    without = IMAGE_SUFFIXES - files.HEIF_SUFFIXES
    with pytest.warns(UserWarning, match="in an unsupported format") as warned:
        assert list_images(tmp_path, without) == [str(tmp_path / "b.png")]
    assert [str(warning.message) for warning in warned] == [
        f"1 picture below {tmp_path} is in an unsupported format, such as {path}, and was skipped. "
        "HEIC and HEIF can be read after: pip install pillow-heif."
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        assert without == importlib.reload(files).IMAGE_SUFFIXES
    finally:
        monkeypatch.undo()
        importlib.reload(files)


def test_pictures_that_are_not_read_are_counted(tmp_path: Path) -> None:
    for name in ("a.psd", "b.NEF", "c.npy", "d.txt"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="in an unsupported format") as warned:
        assert list_images(tmp_path) == []
    (text,) = [str(warning.message) for warning in warned]
    assert text.startswith(f"3 pictures below {tmp_path} are in an unsupported format, such as ")
    assert "Arrays (.npy) are read if data.in_chans is not 3. Convert them to JPEG or PNG to use them." in text
