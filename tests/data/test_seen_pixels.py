"""A mean and standard deviation that do not match the images."""

import warnings

import pytest
import torch

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.seen_pixels import SeenPixels
from inceptionnext_lit.preprocessing import Preprocessing

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def form(mean: list[float], std: list[float]) -> Preprocessing:
    return Preprocessing(image_size=8, crop_pct=1.0, interpolation="bicubic", mean=mean, std=std)


def pixels(center: float, spread: float, channels: int = 3, images: int = 64) -> torch.Tensor:
    noise = torch.randn(images, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return ((center + spread * noise).clamp(0, 1) * 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("center", "spread", "mean", "std"),
    [
        (0.45, 0.2, *IMAGENET),
        (0.13, 0.15, *IMAGENET),  # white digits on black
        (0.97, 0.05, *IMAGENET),  # documents
        (0.45, 0.2, [0.0] * 3, [1.0] * 3),
        (0.5, 0.0, *IMAGENET),  # nothing to compare
    ],
)
def test_no_warning(center: float, spread: float, mean: list[float], std: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = SeenPixels(form(mean, std))
        for _ in range(5):
            seen.note(pixels(center, spread))


@pytest.mark.parametrize(
    ("center", "spread", "mean", "std"),
    [
        (0.45, 0.2, [123.7], [58.4]),  # of one channel, where floats may reach any value
        (0.45, 0.2, [0.45], [0.005]),
        (0.05, 0.02, [0.9], [0.1]),
        (0.45, 0.2, [0.45], [4.0]),
    ],
)
def test_far_off(center: float, spread: float, mean: list[float], std: list[float]) -> None:
    seen = SeenPixels(form(mean, std))
    for _ in range(3):
        seen.note(pixels(center, spread, channels=1))
    with pytest.warns(UserWarning, match=r"^The first 256 training images have a mean of \[0\.") as said:
        seen.note(pixels(center, spread, channels=1))
    seen.note(pixels(center, spread, channels=1))  # warns once
    assert len(said) == 1
    assert f"but data.input.mean is {mean} and data.input.std is {std}; set them to those of the images" in str(
        said[0].message
    )


def test_the_numbers_are_those_of_the_images() -> None:
    batch = torch.zeros(256, 1, 8, 8)
    batch[:128] = 1000.0
    with pytest.warns(UserWarning, match=r"mean of \[500\.0\] and a standard deviation of \[500\.0\] per channel"):
        SeenPixels(form([0.5], [0.25])).note(batch)


def test_values_for_pixels_up_to_255_warn_at_once() -> None:
    with pytest.warns(
        UserWarning, match=r"^data\.input\.mean is \[123\.7, 116\.3, 103\.5\] .* pixels are 0 to 1; divide them by"
    ):
        ImageFolderDataModule("sample", input=InputOptions(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]))
