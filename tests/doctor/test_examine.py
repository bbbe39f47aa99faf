"""Examination of one file: what is read, and why it cannot be."""

import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.doctor.examine import Examination, examine
from inceptionnext_lit.doctor.survey import survey
from inceptionnext_lit.errors import UserError
from tests.doctor.folders import bomb, jpeg, picture, save


def test_an_intact_file(tmp_path: Path) -> None:
    seen = examine(str(save(tmp_path / "a.png", Image.new("RGB", (40, 30), (10, 20, 30)))))
    assert (seen.size, seen.mode, seen.format, seen.error) == ((40, 30), "RGB", "PNG", "")
    assert (seen.is_16_bit, seen.orientation, seen.look.is_plain) == (False, 1, True)
    assert seen.look.color == (10, 20, 30)
    assert seen.look.thumbnail == bytes([18]) * 24 * 24  # 0.299 · 10 + 0.587 · 20 + 0.114 · 30
    same = examine(str(save(tmp_path / "b.png", Image.new("RGB", (40, 30), (10, 20, 30)))))
    other = examine(str(save(tmp_path / "c.png", Image.new("RGB", (40, 30), (10, 20, 31)))))
    assert seen.digest == same.digest != other.digest
    assert len(seen.digest) == 16


def test_pictures_are_seen_as_the_loader_reads_them(tmp_path: Path) -> None:
    image = picture(0)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = examine(str(save(tmp_path / "turned.png", image.rotate(180), exif=exif)))
    assert turned.orientation == 3
    assert turned.look.thumbnail == examine(str(save(tmp_path / "upright.png", image))).look.thumbnail


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("gray.png", np.zeros((4, 4), np.uint16), True),
        ("gray.tif", np.zeros((4, 4), np.uint16), True),
        ("grey8.png", np.zeros((4, 4), np.uint8), False),
    ],
)
def test_16_bit(tmp_path: Path, name: str, values: np.ndarray, expected: bool) -> None:
    assert examine(str(save(tmp_path / name, Image.fromarray(values)))).is_16_bit is expected


@pytest.mark.parametrize(
    ("highest", "expected"), [(0, False), (255, True), (4095, True), (4500, False), (60000, False)]
)
def test_dark_16_bit(tmp_path: Path, highest: int, expected: bool) -> None:
    values = np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16)
    assert examine(str(save(tmp_path / "a.png", Image.fromarray(values)))).look.is_dark is expected


def test_16_bit_color(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save(path, Image.new("RGB", (1, 1)))
    content = bytearray(path.read_bytes())
    content[24] = 16  # the header's depth; the check of the header follows it
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    start = content.index(b"IDAT") - 4
    data = zlib.compress(bytes(7))
    chunk = len(data).to_bytes(4, "big") + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4, "big")
    end = content[content.index(b"IEND") - 4 :]
    path.write_bytes(content[:start] + chunk + end)
    seen = examine(str(path))
    assert (seen.mode, seen.is_16_bit, seen.error) == ("RGB", True, "")


@pytest.mark.parametrize(("odd_rows", "expected"), [(0, True), (1, True), (2, False)])
def test_almost_one_color(tmp_path: Path, odd_rows: int, expected: bool) -> None:
    values = np.random.default_rng(0).integers(96, 104, (100, 100, 3), dtype=np.uint8)
    values[:odd_rows] = 255
    assert examine(str(save(tmp_path / "a.png", Image.fromarray(values)))).look.is_plain is expected


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb())
    start = time.perf_counter()
    seen = examine(str(tmp_path / "a.png"))
    assert seen.error == "it has more pixels than data.bad_images.max_pixels allows (120,000,000)"
    assert seen.is_too_large
    assert time.perf_counter() - start < 1


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for suffix, content in {"jpg": jpeg(picture(0)), "png": save(tmp_path / "b.png", picture(0)).read_bytes()}.items():
        for share in (0.3, 0.6, 0.9, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            assert "truncated" in examine(str(path)).error.lower(), (suffix, share)


def test_what_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    save(tmp_path / "float.tif", Image.new("F", (2, 2)))
    assert {path.name: examine(str(path)).error for path in tmp_path.iterdir()} == {
        "empty.jpg": "the file is empty (0 bytes)",
        "text.jpg": "its content is not an image of a known format",
        "broken.jpg": "the link points to a missing file",
        "self.jpg": "Too many levels of symbolic links",
        "folder.jpg": "it is not a regular file",
        "pipe.jpg": "it is not a regular file",
        "float.tif": "",
    }
    assert examine(str(tmp_path / "gone.jpg")).error == "the file is gone"


def test_a_file_too_large_for_memory_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(save(tmp_path / "a.jpg", picture(0)))
    whole = examine(path)
    monkeypatch.setattr("inceptionnext_lit.doctor.examine._IN_MEMORY", 10)
    assert examine(path) == whole


@pytest.mark.slow
def test_many_files_come_back_in_order(tmp_path: Path) -> None:
    paths = [str(save(tmp_path / f"{n}.png", Image.new("L", (n, 1)))) for n in range(1, 41)]
    read: list[int] = []
    seen = survey([*paths, "none.jpg"], workers=2, tick=read.append)
    assert [examination.size[0] for examination in seen] == [*range(1, 41), 0]
    assert seen[-1] == Examination("none.jpg", error="the file is gone")
    assert sum(read) == 41
    assert survey([], workers=2) == []


def die(paths: list[str], max_pixels: int) -> None:
    os._exit(9)


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(save(tmp_path / "a.png", Image.new("L", (1, 1))))
    monkeypatch.setattr("inceptionnext_lit.doctor.survey._examine_all", die)
    with pytest.raises(UserError, match=r"^A process that reads images was killed, .* near .*a\.png\. Try .* 1\.$"):
        survey([path], workers=1)
