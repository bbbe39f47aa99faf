"""Golden pixel values of the loader, for every mode that a file can have."""

import io
import struct
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from inceptionnext_lit.data import load_image
from inceptionnext_lit.data.decode import image as loading
from inceptionnext_lit.errors import UserError

R, G, B, W = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path) -> list[tuple[int, int, int]]:
    image = load_image(path)
    assert image.mode == "RGB"
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]


def row(mode: str, *values: object) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (row("RGB", (1, 2, 3), (255, 0, 7)), "a.png", [(1, 2, 3), (255, 0, 7)]),
        (row("L", 0, 130, 255), "a.png", [(0, 0, 0), (130, 130, 130), (255, 255, 255)]),
        (row("1", 0, 255), "a.png", [(0, 0, 0), (255, 255, 255)]),
        (row("CMYK", (0,) * 4, (255, 0, 0, 0), (0, 0, 0, 255)), "a.tif", [W, (0, 255, 255), (0, 0, 0)]),
        (row("LA", (10, 255), (10, 0), (0, 128)), "a.png", [(10, 10, 10), (255, 255, 255), (127, 127, 127)]),
        (row("RGBA", (9, 8, 7, 255), (9, 8, 7, 0), (255, 0, 0, 51)), "a.png", [(9, 8, 7), W, (255, 204, 204)]),
        (row("I;16", 0, 128, 129, 32896, 65535), "a.png", [(0,) * 3, (0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3]),
        (row("I;16", 257, 65535), "a.tif", [(1, 1, 1), (255, 255, 255)]),
        (row("I;16B", 257 * 200, 65535), "a.tif", [(200, 200, 200), (255, 255, 255)]),
        (row("I", 257 * 3, 65535), "a.tif", [(3, 3, 3), (255, 255, 255)]),
    ],
    ids=["RGB", "L", "1", "CMYK", "LA", "RGBA", "I;16", "I;16-tiff", "I;16B", "I"],
)  # fmt: skip
def test_mode(tmp_path: Path, image: Image.Image, name: str, expected: list[tuple[int, int, int]]) -> None:
    path = saved(tmp_path / name, image)
    with Image.open(path) as stored:
        assert stored.mode == image.mode
    assert pixels(path) == expected


@pytest.mark.parametrize("mode", ["PA", "RGBa", "YCbCr", "HSV", "RGBX"])
def test_modes_that_common_files_do_not_have(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, expected = {
        "PA": ((0, 0), (255, 255, 255)),
        "RGBa": ((51, 0, 0, 51), (255, 204, 204)),
        "YCbCr": ((255, 128, 128), (255, 255, 255)),
        "HSV": ((0, 255, 255), (255, 0, 0)),
        "RGBX": ((1, 2, 3, 99), (1, 2, 3)),
    }[mode]
    image = Image.new(mode, (1, 1), value)
    monkeypatch.setattr(loading, "open_image", lambda path, max_pixels: nullcontext(image))
    assert pixels(Path("any")) == [expected]


def test_lab_is_converted(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.new("RGB", (1, 1), (255, 255, 255)), to_lab)
    (color,) = pixels(saved(tmp_path / "a.tif", lab))
    assert min(color) >= 250


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = row("P", 0, 1, 2)
    image.putpalette([10, 20, 30, 40, 50, 60, 0, 0, 0])
    assert pixels(saved(tmp_path / "a.png", image)) == [(10, 20, 30), (40, 50, 60), (0, 0, 0)]
    path = saved(tmp_path / "b.png", image, transparency=bytes([255, 0, 51]))
    assert pixels(path) == [(10, 20, 30), (255, 255, 255), (204, 204, 204)]
    assert pixels(saved(tmp_path / "c.gif", image, transparency=1))[1] == (255, 255, 255)


def test_one_transparent_color(tmp_path: Path) -> None:
    gray = saved(tmp_path / "l.png", row("L", 7, 8), transparency=8)
    assert pixels(gray) == [(7, 7, 7), (255, 255, 255)]
    color = saved(tmp_path / "rgb.png", row("RGB", (1, 2, 3), (4, 5, 6)), transparency=(4, 5, 6))
    assert pixels(color) == [(1, 2, 3), (255, 255, 255)]
    deep = saved(tmp_path / "i16.png", row("I;16", 2570, 2571), transparency=2571)
    assert pixels(deep) == [(10, 10, 10), (255, 255, 255)]


def test_16_bit_pgm(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 65535, 257 * 9))
    assert pixels(path) == [(255, 255, 255), (9, 9, 9)]


# Red, green over blue, white as stored; what each orientation shows upright, row by row.
UPRIGHT = {1: [R, G, B, W], 2: [G, R, W, B], 3: [W, B, G, R], 4: [B, W, R, G],
           5: [R, B, G, W], 6: [B, R, W, G], 7: [W, G, B, R], 8: [G, W, R, B]}  # fmt: skip


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (2, 2))
    image.putdata([R, G, B, W])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert pixels(saved(tmp_path / "a.png", image, exif=exif)) == UPRIGHT[orientation]


def test_exif_turns_the_size_of_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.new("L", (30, 20), 77), exif=exif)
    assert load_image(path).size == (20, 30)
    assert load_image(path).getpixel((3, 3)) == (77, 77, 77)


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its content is not an image of a known format"),
        (b"not an image", "its content is not an image of a known format"),
        (encoded("JPEG")[:1000], "truncated"),
        (encoded("PNG")[:2000], "truncated"),
    ],
    ids=["empty", "text", "half a JPEG", "half a PNG"],
)
def test_unreadable(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("Replace the file with an intact image, or remove it.")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the image .*none\.jpg: the file is missing"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="Is a directory"):
        load_image(tmp_path)


def test_values_without_a_defined_brightness(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its pixel mode F has no defined brightness"):
        load_image(saved(tmp_path / "f.tif", row("F", 0.5)))
    with pytest.raises(UserError, match="its 32-bit pixel values reach from -1 to 70000, beyond 16 bits"):
        load_image(saved(tmp_path / "i.tif", row("I", -1, 70000)))
