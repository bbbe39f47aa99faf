import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.export.resampling import ResizeAndCrop
from inceptionnext_lit.preprocessing import CropMode, Interpolation, Preprocessing

SIZES = [(28, 28), (64, 64), (1, 7), (40, 31), (53, 200), (211, 90), (63, 65), (150, 100)]


def preprocessing(
    size: int | list[int], crop_pct: float, mode: CropMode, interpolation: Interpolation
) -> Preprocessing:
    return Preprocessing(
        image_size=size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        mean=[0.4, 0.5, 0.6],
        std=[0.2] * 3,
        crop_mode=mode,
    )


def photo(height: int, width: int) -> np.ndarray:
    """A picture with smooth colors and an edge, within the range that bicubic overshoots do not leave."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 7 + c) * np.cos(columns / (5 + c)) for c in range(3)]
    return (128 + 50 * np.dstack(waves) + 20 * (rows > columns)[..., None]).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [64, 45, [48, 72]], ids=str)
def test_pixels_are_those_of_the_evaluation(
    size: int | list[int], mode: CropMode, interpolation: Interpolation
) -> None:
    for crop_pct, (height, width) in itertools.product((1.0, 0.875, 0.95), SIZES):
        if mode == "border" and 1 in (height, width):
            continue  # Pillow refuses to shrink a side to nothing
        steps = preprocessing(size, crop_pct, mode, interpolation)
        image = photo(height, width)
        expected = eval_transform(steps)(Image.fromarray(image)).float()
        found = ResizeAndCrop(steps)(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0]
        assert found.shape == expected.shape
        difference = (found - expected).abs()
        assert difference.max() <= 2, (crop_pct, height, width)  # where Pillow resizes the columns first
        assert difference.mean() < 0.15, (crop_pct, height, width)


def test_an_image_of_the_right_size_is_unchanged() -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    steps = preprocessing(32, 1.0, "center", "bicubic")
    assert torch.equal(ResizeAndCrop(steps)(pixels), pixels)
