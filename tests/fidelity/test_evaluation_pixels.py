"""The evaluation of a recipe uses timm's pixels, also for a picture with an orientation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from inceptionnext_lit.data.device_batch import ToInput
from inceptionnext_lit.data.input_format import InputOptions, input_format
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from tests.fidelity.sources import RECIPES, recipe


def picture(path: Path, width: int, height: int) -> Path:
    coarse = np.random.default_rng(width).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92, exif=exif)
    return path


@pytest.mark.parametrize("stem", RECIPES)
@pytest.mark.parametrize("size", [(500, 375), (333, 500)])
def test_pixels_are_timms(stem: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = picture(tmp_path / "photo.jpg", *size)
    given: dict[str, Any] = recipe(stem).config["data"]
    options = InputOptions(**given["input"])
    preprocessing = input_format(given["image_size"], 3, options)
    pixels = eval_transform(preprocessing, 10**8).read(str(path))
    found = ToInput(preprocessing)(pixels[None].contiguous(memory_format=torch.channels_last))[0]
    source = create_transform(
        given["image_size"], is_training=False, interpolation="bicubic", crop_pct=options.crop_pct,
        mean=options.mean, std=options.std,
    )  # fmt: skip
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 6
        expected = source(image.convert("RGB"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    whole = torch.tensor(options.std)[:, None, None] * expected + torch.tensor(options.mean)[:, None, None]
    assert torch.equal(pixels.to(torch.float32), (whole * 255).round())
