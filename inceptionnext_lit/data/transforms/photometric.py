"""mmsegmentation's PhotoMetricDistortion, with the pixels and draws of its definition.

Source: open-mmlab/mmsegmentation ``mmseg/datasets/transforms/transforms.py``. Hue and saturation are changed in 8-bit
HSV as OpenCV has it: the hue from 0 to 179, saturation and value from 0 to 255. OpenCV's vector code for the way back
rounds down instead of to nearest, so its result may be one level lower.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An RGB image, (H, W, 3)."""

BRIGHTNESS: Final = 32
CONTRAST: Final = (0.5, 1.5)
SATURATION: Final = (0.5, 1.5)
HUE: Final = 18
_HALF_TURN = 180
_BLOCK = 2**15  # pixels that are converted at once, so that intermediate results stay in the cache: 2.5 times as fast


def distort(image: Pixels) -> Pixels:
    """Change brightness, contrast, saturation and hue, each with probability 0.5, by draws from NumPy's generator.

    Contrast comes before saturation and hue, or after them, with equal probability.

    Args:
        image: The image; it is not changed.
    """
    image = _brightness(image)
    contrast_first = np.random.randint(2) == 1
    if contrast_first:
        image = _contrast(image)
    image = _saturation_and_hue(image)
    return image if contrast_first else _contrast(image)


def _brightness(image: Pixels) -> Pixels:
    if np.random.randint(2):
        return _look_up(image, lambda levels: levels + np.float32(np.random.uniform(-BRIGHTNESS, BRIGHTNESS)))
    return image


def _contrast(image: Pixels) -> Pixels:
    if np.random.randint(2):
        return _look_up(image, lambda levels: levels * np.float32(np.random.uniform(*CONTRAST)))
    return image


def _saturation_and_hue(image: Pixels) -> Pixels:
    """Change the saturation, then the hue; the definition converts to 8-bit RGB between them, which is kept."""
    factor = np.float32(np.random.uniform(*SATURATION)) if np.random.randint(2) else None
    turn = np.random.randint(-HUE, HUE) if np.random.randint(2) else None
    if factor is None and turn is None:
        return image
    changed = np.empty_like(image)
    rows = max(1, _BLOCK // image.shape[1])
    for top in range(0, len(image), rows):
        block = image[top : top + rows]
        if factor is not None:
            block = _saturated(block, factor)
        changed[top : top + rows] = block if turn is None else _turned(block, turn)
    return changed


def _saturated(image: Pixels, factor: np.float32) -> Pixels:
    hue, saturation, value = to_hsv(image)
    return to_rgb(hue, _look_up(saturation, lambda levels: levels * factor), value)


def _turned(image: Pixels, turn: int) -> Pixels:
    hue, saturation, value = to_hsv(image)
    turned = (np.arange(256) + turn) % _HALF_TURN
    return to_rgb(turned.astype(np.uint8)[hue], saturation, value)


def _look_up(image: Pixels, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Pixels:
    """Apply a function of the level to all channels; results are cut off to 0 and 255 and rounded down."""
    table = np.clip(change(np.arange(256, dtype=np.float32)), 0, 255).astype(np.uint8)
    return np.frombuffer(image.tobytes().translate(table.tobytes()), np.uint8).reshape(image.shape)


_BITS = 12  # after the binary point, in OpenCV's arithmetic
_HALF = np.int32(1 << (_BITS - 1))


def _divisions(numerator: float) -> NDArray[np.int32]:
    """Return OpenCV's table of a number divided by each level; 0 for the level 0."""
    return np.concatenate([[0], np.rint(numerator * (1 << _BITS) / np.arange(1, 256))]).astype(np.int32)


_SATURATIONS = (np.arange(256) * _divisions(255)[:, None] + _HALF >> _BITS).astype(np.uint8).ravel()
"""Saturation at 256 times the value plus the range of the channels, which is at most the value."""
_BY_RANGE = _divisions(_HALF_TURN / 6)


def to_hsv(image: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Convert an RGB image to hue (0 to 179), saturation and value, with OpenCV's integer arithmetic."""
    red, green, blue = (np.ascontiguousarray(image[..., channel]) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    wide = spread.astype(np.int32)
    saturation = _SATURATIONS.take(value.astype(np.uint16) << 8 | spread)
    sixth = _difference(red, green) + 4 * wide
    np.copyto(sixth, _difference(blue, red) + 2 * wide, where=value == green)
    np.copyto(sixth, _difference(green, blue), where=value == red)
    hue = (sixth * _BY_RANGE.take(spread) + _HALF) >> _BITS
    hue += (hue < 0) * np.int32(_HALF_TURN)
    return hue.astype(np.uint8), saturation, value


def _difference(one: Pixels, other: Pixels) -> NDArray[np.int32]:
    return np.subtract(one, other, dtype=np.int32)


def _shares(start: int) -> NDArray[np.float32]:
    """Return the share of the chroma that a channel lacks, for each hue."""
    turned = np.arange(256, dtype=np.float32) * np.float32(6 / _HALF_TURN) + np.float32(start)
    turned -= (turned >= 6) * np.float32(6)
    shares: NDArray[np.float32] = np.clip(np.minimum(turned, 4 - turned), 0, 1)
    return shares


_SHARES = tuple(_shares(start) for start in (5, 3, 1))  # of red, green and blue


def to_rgb(hue: Pixels, saturation: Pixels, value: Pixels) -> Pixels:
    """Convert hue (0 to 179), saturation and value to an RGB image, rounded to nearest."""
    chroma = value * (saturation * np.float32(1 / 255))
    image = np.empty((*hue.shape, 3), dtype=np.uint8)
    for channel, shares in enumerate(_SHARES):
        share = shares.take(hue)
        share *= chroma
        np.subtract(value, share, out=share)
        image[..., channel] = np.rint(share, out=share)
    return image
