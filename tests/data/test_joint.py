"""Masks and boxes are transformed like their picture."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.tv_tensors import BoundingBoxes, Mask

from inceptionnext_lit.data.transforms.augmentation import LEVELS, Augmentation
from inceptionnext_lit.data.transforms.pipeline import Transform, eval_transform, train_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED, CropMode, Preprocessing

SIZES = [32, [24, 40], [40, 24]]
TOP, LEFT, BOTTOM, RIGHT = 30, 20, 60, 70  # of a white rectangle
PLAIN = replace(LEVELS["none"], hflip=0.5)
AUGMENTATIONS = {
    "flip": PLAIN,
    "crop": replace(PLAIN, scale=(0.3, 1.0)),
    "pad_crop": replace(PLAIN, pad_crop=4),
    "jitter": replace(PLAIN, scale=(0.5, 1.0), color_jitter=0.2),
}


def form(size: int | list[int], mode: CropMode = "center", crop_pct: float = 0.875) -> Preprocessing:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return Preprocessing(
        image_size=size, crop_pct=crop_pct, interpolation="bilinear", mean=mean, std=std, crop_mode=mode
    )


def sample() -> tuple[Image.Image, Mask, BoundingBoxes]:
    """A white rectangle on black (90 high, 80 wide), its mask and its box."""
    mask = torch.zeros(90, 80, dtype=torch.uint8)
    mask[TOP:BOTTOM, LEFT:RIGHT] = 1
    image = Image.fromarray((mask * 255).numpy()).convert("RGB")
    box = BoundingBoxes(torch.tensor([[LEFT, TOP, RIGHT, BOTTOM]]), format="XYXY", canvas_size=(90, 80))  # type: ignore[call-overload]
    return image, Mask(mask), box


def check(pixels: Tensor, mask: Tensor, box: Tensor, height: int, width: int) -> None:
    """Check that the picture's white matches the mask and the box, except at edges, which a resize blurs."""
    assert pixels.shape == (3, height, width)
    assert mask.shape == (height, width)
    classes = mask.float()[None]
    largest, smallest = (sign * max_pool2d(sign * classes, 3, 1, 1)[0] for sign in (1, -1))
    away = (largest == smallest) & (mask != IGNORED)  # from the edges between the classes
    away[[0, -1]] = away[:, [0, -1]] = False  # the neighbors there are cut off
    white = pixels[0] > 127
    assert torch.equal(white[away], (mask == 1)[away])
    assert away.float().mean() > 0.3
    assert set(mask.unique().tolist()) <= {0, 1, IGNORED}
    rows, columns = (mask == 1).nonzero(as_tuple=True)
    if len(rows):
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (box[0].clamp(min=0) - found).abs().max() <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_evaluation(size: int | list[int], mode: CropMode, crop_pct: float) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    picture, mask, box = sample()
    transform = eval_transform(form(size, mode, crop_pct))
    pixels, moved, boxes = transform.joint(picture, mask, box)
    check(pixels, moved, boxes, height, width)
    assert torch.equal(pixels, transform(picture))
    assert isinstance(moved, Mask)
    assert isinstance(boxes, BoundingBoxes)
    assert boxes.canvas_size == (height, width)


def test_masks_are_ignored_outside_the_picture() -> None:
    picture, mask, box = Image.new("RGB", (40, 20)), Mask(torch.ones(20, 40, dtype=torch.uint8)), sample()[2]
    _, moved = eval_transform(form(32, "border", 1.0)).joint(picture, mask)
    assert torch.equal(moved[:8], torch.full((8, 32), IGNORED, dtype=torch.uint8))
    assert torch.equal(moved[8:24], torch.ones(16, 32, dtype=torch.uint8))
    assert torch.equal(moved[24:], torch.full((8, 32), IGNORED, dtype=torch.uint8))
    assert box.shape == (1, 4)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_training(size: int | list[int], name: str) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    transform = train_transform(AUGMENTATIONS[name], form(size, crop_pct=1.0))
    random.seed(0)
    torch.manual_seed(0)
    seen = set()
    for _ in range(30):
        pixels, mask, box = transform.joint(*sample())
        check(pixels, mask, box, height, width)
        seen.add(mask.numpy().tobytes())
    assert len(seen) > (1 if name == "flip" else 10)


def draws(transform: Callable[[], Tensor]) -> Tensor:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    return torch.stack([transform() for _ in range(5)])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_targets_do_not_change_the_draws(name: str) -> None:
    picture, mask, box = sample()
    transform = train_transform(AUGMENTATIONS[name], form(32))
    alone = draws(lambda: transform(picture))
    assert torch.equal(alone, draws(lambda: transform.joint(picture, mask, box)[0]))


def test_jpeg_files_are_read_with_their_masks(tmp_path: Path) -> None:
    picture, mask, box = sample()
    path = str(tmp_path / "a.jpg")
    picture.save(path, quality=95)
    transform = train_transform(AUGMENTATIONS["crop"], form([24, 40]))
    random.seed(0)
    for _ in range(10):
        check(*transform.read_joint(path, mask, box), 24, 40)


def test_rand_augment_refuses_targets() -> None:
    transform = train_transform(Augmentation(), form(32))
    with pytest.raises(UserError, match=r"^RandAugment moves pixels, but not masks and boxes; set data\."):
        transform.joint(*sample())
    assert transform(sample()[0]).shape == (3, 32, 32)


def test_plain_tensors_are_not_targets() -> None:
    transform: Transform = eval_transform(form(32))
    with pytest.raises(TypeError, match=r"Mask or BoundingBoxes; got Tensor"):
        transform.joint(sample()[0], torch.zeros(90, 80))  # type: ignore[arg-type]
