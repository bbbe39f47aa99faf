"""Processing of batches on the device: conversion, normalization, erasing."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import default_collate

from inceptionnext_lit.data.transforms.erasing import Erasure, erase
from inceptionnext_lit.preprocessing import Preprocessing


class ToInput:
    """Convert pixels to a model's input: ``(pixels / 255 - mean) / std``, bit for bit as for single images.

    Args:
        preprocessing: Contains the mean and standard deviation of each channel.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean = preprocessing["mean"]
        self._std = preprocessing["std"]
        self._constants: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the input in float32, with the same shape.

        Args:
            pixels: Shape (N, C, H, W), uint8 or float32 in [0, 1], channels last in memory, as the result will be.
        """
        white, mean, std = self._on(pixels.device, pixels.shape[1:])
        scaled = pixels.to(torch.float32).div_(white) if pixels.dtype == torch.uint8 else pixels.clone()
        return scaled.sub_(mean).div_(std)

    def _on(self, device: torch.device, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """Return 255, mean and standard deviation on a device, expanded so that CPUs avoid a loop over channels.

        255 is a tensor because GPUs divide inexactly by a Python number; all are cached because copying them would
        synchronize the GPU.
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
    """The images of a batch from the loader processes, before they become the model's input.

    The rectangles to erase stay in host memory, so that reading them does not synchronize the GPU.

    Attributes:
        pixels: Shape (N, C, S, S), uint8 or float32 in [0, 1]; in memory (N, S, S, C).
        erasures: One per image, or an empty list.
    """

    def __init__(self, pixels: Tensor, erasures: Sequence[Erasure | None] = ()) -> None:
        self.pixels = pixels
        self.erasures = list(erasures)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.pixels)

    def pin_memory(self) -> Self:
        """Return the same images in pinned memory."""
        return type(self)(self.pixels.pin_memory(), self.erasures)

    def to(self, device: torch.device) -> Self:
        """Return the same images on a device, without synchronizing a GPU."""
        return type(self)(self.pixels.to(device, non_blocking=device.type == "cuda"), self.erasures)

    def finished(self, to_input: ToInput, *, with_erasing: bool = True) -> Tensor:
        """Return the model's input, float32 (N, C, S, S): normalized and, with ``with_erasing``, erased as drawn."""
        images = to_input(self.pixels)
        if self.erasures and with_erasing:
            erase(images, self.erasures)
        return images


def stack_pixels(images: Sequence[Tensor]) -> Tensor:
    """Stack pixels (C, S, S) into a batch (N, C, S, S), channels last in memory that loader processes share."""
    stacked: Tensor = default_collate([image.permute(1, 2, 0) for image in images])
    return stacked.permute(0, 3, 1, 2)
