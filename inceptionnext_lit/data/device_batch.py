"""What is left to do of a batch once it is on the device: conversion, normalisation, erasing."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import default_collate

from inceptionnext_lit.data.transforms.erasing import Erasure, erase
from inceptionnext_lit.preprocessing import Preprocessing


class ToInput:
    """Makes a model's input of pixels: ``(pixels / 255 - mean) / std``, to the last bit as on single images.

    Args:
        preprocessing: Has the mean and the standard deviation of each channel.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean = preprocessing["mean"]
        self._std = preprocessing["std"]
        self._constants: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Input of the same shape, float32.

        Args:
            pixels: Shape (N, C, H, W), uint8 or float32 in [0, 1], with a pixel's channels next to each other in memory
                as those of the result will be.
        """
        white, mean, std = self._on(pixels.device, pixels.shape[1:])
        scaled = pixels.to(torch.float32).div_(white) if pixels.dtype == torch.uint8 else pixels.clone()
        return scaled.sub_(mean).div_(std)

    def _on(self, device: torch.device, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """255, mean and deviation on a device: spread out, so that CPUs need not go channel by channel.

        255 is a tensor because GPUs divide by a plain number inexactly, and all are kept because copying them would
        make a GPU wait.
        """
        key = (device, *shape)
        if key not in self._constants:
            white, *spread = (
                torch.tensor(values).view(-1, 1, 1).expand(shape)[None].contiguous(memory_format=torch.channels_last)
                for values in ([255.0], self._mean, self._std)
            )
            mean, std = spread
            self._constants[key] = white.to(device), mean.to(device), std.to(device)
        return self._constants[key]


class RawImages:
    """The images of a batch as loader processes hand them over, in the place that a model's input will have.

    The rectangles to erase stay in the host's memory, so that reading them does not make a GPU wait.

    Attributes:
        pixels: Shape (N, C, S, S), uint8 or float32 in [0, 1]; in memory (N, S, S, C).
        erasures: One for each image, or none at all.
    """

    def __init__(self, pixels: Tensor, erasures: Sequence[Erasure | None] = ()) -> None:
        self.pixels = pixels
        self.erasures = list(erasures)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.pixels)

    def pin_memory(self) -> Self:
        """The same images in memory that a GPU copies from by itself."""
        return type(self)(self.pixels.pin_memory(), self.erasures)

    def to(self, device: torch.device) -> Self:
        """The same images on a device; a GPU is not waited for."""
        return type(self)(self.pixels.to(device, non_blocking=device.type == "cuda"), self.erasures)

    def finished(self, to_input: ToInput, *, with_erasing: bool = True) -> Tensor:
        """The model's input, float32 (N, C, S, S): normalised, and erased where that was drawn and is wanted."""
        images = to_input(self.pixels)
        if self.erasures and with_erasing:
            erase(images, self.erasures)
        return images


def stack_pixels(images: Sequence[Tensor]) -> Tensor:
    """Pixels (C, S, S) as a batch (N, C, S, S), which lies in memory as (N, S, S, C), which loader processes share."""
    stacked: Tensor = default_collate([image.permute(1, 2, 0) for image in images])
    return stacked.permute(0, 3, 1, 2)
