"""Folders of images with various problems."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Create a picture that differs from those of other seeds: soft patches of color and a little noise."""
    draw = np.random.default_rng(seed)
    patches = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = draw.normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(patches) + noise, 0, 255).astype(np.uint8))


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def clean_folder(root: Path, train: int = 3, val: int = 2, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Create a folder without problems."""
    seed = 1000
    for split, number in (("train", train), ("val", val)):
        for name in classes:
            for index in range(number):
                save(root / split / name / f"{index}.jpg", picture(seed), quality=85)
                seed += 1
    return root


def bomb() -> bytes:
    """Write a PNG whose header claims 60,000×60,000 pixels that do not exist."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = [(len(part) - 4, part) for part in (header, end)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", length) + part + struct.pack(">I", zlib.crc32(part)) for length, part in chunks
    )


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def dirty_folder(root: Path) -> Path:
    """Create three hundred images with eight kinds of problems."""
    clean_folder(root, train=80, val=20, classes=("bird", "cat", "dog"))
    (root / "train/cat/truncated.jpg").write_bytes(jpeg(picture(1, (320, 240)))[:4000])
    (root / "train/cat/empty.jpg").touch()
    (root / "val/dog/text.jpg").write_text("no picture, honestly")
    save(root / "train/dog/print.jpg", picture(2).convert("CMYK"))
    deep = np.random.default_rng(3).integers(0, 65536, (6, 8), dtype=np.uint16).repeat(8, axis=0).repeat(8, axis=1)
    save(root / "train/dog/deep.png", Image.fromarray(deep))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "train/bird/turned.jpg", picture(4), exif=exif)
    (root / "val/bird/copy.jpg").write_bytes((root / "train/bird/7.jpg").read_bytes())
    (root / "train/bird/circle").symlink_to(root / "train")
    return root
