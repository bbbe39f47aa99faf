"""Random erasing: rectangles as in timm, and noise that depends only on an image's own seed."""

import random

import torch
from timm.data.random_erasing import RandomErasing

from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.input_format import InputOptions, input_format
from inceptionnext_lit.data.transforms.erasing import Erasure, draw_erasure, erase


def test_rectangles_are_timms() -> None:
    theirs = RandomErasing(0.5, mode="pixel", device="cpu")
    erased = 0
    for seed in range(300):
        random.seed(seed)
        mask = theirs(torch.full((1, 40, 60), 99.0))[0] != 99.0
        random.seed(seed)
        erasure = draw_erasure(0.5, 40, 60)
        expected = torch.zeros(40, 60, dtype=torch.bool)
        if erasure is not None:
            erased += 1
            expected[erasure.top : erasure.top + erasure.height, erasure.left : erasure.left + erasure.width] = True
        assert torch.equal(mask, expected)
    assert 120 < erased < 180


def test_noise_is_normal_and_a_function_of_the_seed() -> None:
    plain = torch.zeros(3, 3, 64, 64)
    first, second = Erasure(4, 8, 50, 40, seed=7), Erasure(4, 8, 50, 40, seed=8)
    images, others = plain.clone(), plain.clone().contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    erase(images, [first, None, second])
    erase(others, [second, first, None])
    assert torch.equal(torch.get_rng_state(), before)  # the step's own draws do not change
    assert torch.equal(images[0], others[1])
    assert torch.equal(images[2], others[0])
    assert not torch.equal(images[0], images[2])
    assert torch.equal(images[1], plain[1])
    inside = images[0, :, 4:54, 8:48]
    assert abs(float(inside.mean())) < 0.05
    assert abs(float(inside.std()) - 1) < 0.05
    images[0, :, 4:54, 8:48] = 0
    assert torch.equal(images[0], plain[0])


def test_a_batch_is_normalized_before_it_is_erased() -> None:
    form = input_format(16, 3, InputOptions(crop_pct=1.0, mean=[0.5] * 3, std=[0.25] * 3))
    pixels = stack_pixels([torch.full((3, 16, 16), 255, dtype=torch.uint8)] * 2)
    raw = RawImages(pixels, [None, Erasure(0, 0, 8, 8, seed=1)])
    images = raw.to(torch.device("cpu")).finished(ToInput(form))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[0], torch.full((3, 16, 16), 2.0))
    assert torch.equal(images[1, :, 8:], torch.full((3, 8, 16), 2.0))
    assert 0.8 < float(images[1, :, :8, :8].std()) < 1.2
    assert pixels.min() == 255
