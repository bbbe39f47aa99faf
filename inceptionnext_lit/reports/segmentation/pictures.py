"""Pictures of masks, predictions and their differences, as ``data:`` URLs for pages."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.masks.overlay import IGNORED_COLOR, overlaid
from inceptionnext_lit.preprocessing import IGNORED

SIDE: Final = 200
"""Pixels of the longer side of a picture."""

WRONG_COLORS: Final = ((255, 170, 140), (230, 60, 20))
_DARKENED = 0.5
_STRIPE = 4  # pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ScenePictures:
    """An image with its mask, a prediction and the difference of both, each as a ``data:`` URL.

    Attributes:
        image: The image.
        mask: The true classes in color on it; ignored pixels are white.
        prediction: The predicted classes in color on it.
        difference: The image in gray with the wrong pixels in red stripes; ignored pixels are white.
    """

    image: str
    mask: str
    prediction: str
    difference: str


def draw_scene(
    pixels: Tensor,
    mask: Pixels,
    classes: Pixels,
    palette: Sequence[Sequence[int]],
    names: Sequence[str],
) -> ScenePictures:
    """Draw an image with its mask, a prediction and their difference.

    Args:
        pixels: The image, (C, h, w), uint8 or float32 in [0, 1].
        mask: True classes (H, W), 255 for ignored pixels.
        classes: Predicted classes (H, W).
        palette: Color of each class; one that is black, or named background, is not drawn.
        names: Name of each class.
    """
    height, width = mask.shape
    share = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    picture = _small(pixels, size)
    true, found = (np.asarray(Image.fromarray(one).resize(size, Image.Resampling.NEAREST)) for one in (mask, classes))
    return ScenePictures(
        _jpeg(picture),
        _jpeg(overlaid(picture, true, palette, names)),
        _jpeg(overlaid(picture, found, palette, names)),
        _jpeg(_difference(picture, true, found)),
    )


def _small(pixels: Tensor, size: tuple[int, int]) -> Pixels:
    scaled = pixels.float() if pixels.dtype == torch.uint8 else 255 * pixels.float()
    if len(scaled) != 3:
        scaled = scaled.mean(dim=0, keepdim=True).expand(3, -1, -1)
    image = Image.fromarray(scaled.clamp(0, 255).permute(1, 2, 0).to(torch.uint8).cpu().numpy())
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _difference(picture: Pixels, true: Pixels, found: Pixels) -> Pixels:
    gray = _DARKENED * np.broadcast_to(picture.mean(axis=2, keepdims=True), picture.shape)
    rows, columns = np.indices(true.shape)
    wrong = (true != found) & (true != IGNORED)
    stripes = (rows + columns) % (2 * _STRIPE) < _STRIPE
    shown = np.where(wrong[..., None], WRONG_COLORS[0], gray)
    shown = np.where((wrong & stripes)[..., None], WRONG_COLORS[1], shown)
    return np.where((true == IGNORED)[..., None], IGNORED_COLOR, shown).astype(np.uint8)


def _jpeg(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
