"""16-bit images whose values have fewer bits, and are therefore read almost black."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.data.decode import dark
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.doctor.diagnosis import diagnose
from inceptionnext_lit.doctor.examine import examine
from inceptionnext_lit.doctor.listing import Item, Listing

MESSAGE = (
    r"^The 16-bit image .*first\.png is read almost black: no value exceeds a sixteenth of the range\. If its values "
    r"have 12 bits or fewer, scale them to 16 bits, or save it with 8 bits\. Others like it are not reported\.$"
)


@pytest.fixture(autouse=True)
def first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(dark, "_warned", False)


def write_png(path: Path, values: np.ndarray) -> Path:
    """Write 16-bit values (H, W) or (H, W, 3), the latter of which Pillow cannot save."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_the_first_image_of_12_bits_is_reported(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.linspace(0, 4095, int(np.prod(shape))).reshape(shape)
    first, second = (write_png(tmp_path / name, values) for name in ("first.png", "second.png"))
    with pytest.warns(UserWarning, match=MESSAGE):
        picture = load_image(first)
    assert np.asarray(picture).max() in (15, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(second)


@pytest.mark.parametrize("highest", [0, 4700, 65535])
def test_others_are_not(tmp_path: Path, highest: int) -> None:
    gray = np.linspace(0, highest, 64).reshape(8, 8)
    Image.fromarray(np.full((8, 8), 3, np.uint8)).save(tmp_path / "dark.png")  # 8 bits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(write_png(tmp_path / "gray.png", gray))
        load_image(write_png(tmp_path / "color.png", np.stack([gray] * 3, axis=2)))
        load_image(tmp_path / "dark.png")


def test_the_doctor_reports_each(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 64).reshape(8, 8)
    paths = [str(write_png(tmp_path / f"{name}.png", values * factor)) for name, factor in (("a", 1), ("b", 16))]
    listing = Listing(tmp_path, [Item(path, "all", "x") for path in paths], {"all": ["x"]})
    found = [one for one in diagnose(listing, [examine(path) for path in paths]) if one.kind == "dark"]
    message = "a.png has 16 bits per channel, but no value above a sixteenth of their range."
    assert [(one.message, one.paths) for one in found] == [(message, ("a.png",))]
