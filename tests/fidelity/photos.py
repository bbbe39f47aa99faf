"""Images as ImageNet has them, and as other people's programs write them."""

from pathlib import Path

import numpy as np
from PIL import Image

_SIZES = [(500, 375), (375, 500), (333, 500), (64, 48), (30, 200), (640, 480), (1024, 700), (256, 256), (225, 224)]
_PALETTE, _BITMAP = 256, "1"


def write_photos(folder: Path, classes: list[str], per_class: int) -> Path:
    """Write images of many sizes and modes into class folders.

    Args:
        folder: The folder.
        classes: Names of the class folders.
        per_class: Number of images in each.
    """
    number = 0
    for name in classes:
        (folder / name).mkdir(parents=True)
        for _ in range(per_class):
            write_photo(folder / name / f"{name}_{number}", number)
            number += 1
    return folder


def write_photo(stem: Path, number: int) -> None:
    """Write one image: a JPEG in color, gray or CMYK, a rotated one, or a PNG, also one that is called .JPEG."""
    random = np.random.default_rng(number)
    width, height = _SIZES[number % len(_SIZES)]
    coarse = random.integers(0, 256, (max(2, height // 20), max(2, width // 20), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    kind = number % 8
    if kind == 1:
        image.convert("L").save(f"{stem}.JPEG", quality=90)
    elif kind == 2:
        image.convert("CMYK").save(f"{stem}.JPEG", quality=90)
    elif kind == 3:
        exif[0x0112] = 6
        image.save(f"{stem}.JPEG", quality=90, exif=exif)
    elif kind == 4:
        image.save(f"{stem}.JPEG", format="PNG")
    elif kind == 5:
        image.quantize(_PALETTE).save(f"{stem}.png")
    elif kind == 6:
        image.convert(_BITMAP).save(f"{stem}.png")
    elif kind == 7:
        image.convert("L").save(f"{stem}.png")
    else:
        image.save(f"{stem}.jpg", quality=95, subsampling=0)
