"""Random erasing (arXiv 1708.04896), drawn per image and applied to the batch on its device."""

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor

_AREA = (0.02, 1 / 3)  # timm's ranges
_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
_ATTEMPTS = 10


class Erasure(NamedTuple):
    """A rectangle of an image, in pixels, and the seed of the noise that replaces it."""

    top: int
    left: int
    height: int
    width: int
    seed: int


def draw_erasure(probability: float, height: int, width: int) -> Erasure | None:
    """Draw a rectangle like timm's ``RandomErasing``, from Python's generator.

    Args:
        probability: Probability of an erasure.
        height: Height of the image.
        width: Width of the image.

    Returns:
        The rectangle; None without an erasure, or if ten rectangles in a row do not fit.
    """
    if random.random() > probability:
        return None
    for _ in range(_ATTEMPTS):
        area = random.uniform(*_AREA) * height * width
        aspect = math.exp(random.uniform(*_LOG_ASPECT))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = random.randint(0, height - rows), random.randint(0, width - columns)
            return Erasure(top, left, rows, columns, random.getrandbits(32))
    return None


def erase(images: Tensor, erasures: list[Erasure | None]) -> None:
    """Fill rectangles with noise of mean 0 and standard deviation 1, in place.

    The noise of an image depends only on its erasure and the type of device. A GPU is not synchronized.

    Args:
        images: Normalized images, float32 (N, C, H, W).
        erasures: One per image, or None.
    """
    generator = torch.Generator(images.device)
    for image, erasure in zip(images, erasures, strict=True):
        if erasure is None:
            continue
        top, left, height, width, seed = erasure
        generator.manual_seed(seed)
        noise = torch.empty((len(image), height, width), device=images.device).normal_(generator=generator)
        image[:, top : top + height, left : left + width] = noise
