"""RandAugment (arXiv 1909.13719) on arrays, with timm's draws and pixels, in less than half the time.

timm's own objects draw the operations, which are replaced where NumPy is faster than Pillow. All operations return the
same bytes as timm's, as a test asserts, except for a difference of one level in a few pixels of sheared images whose
exact value is a whole number.
"""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_choices, rand_augment_ops
from timm.data.transforms import str_to_pil_interp
from torch import Tensor, from_numpy

from inceptionnext_lit.data.transforms.augmentation import Augmentation

_PROB = 0.5  # timm's default, which DeiT's 9/0.5 relies on

Pixels = NDArray[np.uint8]
"""A uint8 image, shape (H, W, 3)."""


def rand_augment(augmentation: Augmentation, mean: list[float]) -> Callable[[Tensor], Tensor]:
    """Build RandAugment, with operations that support all magnitudes.

    timm's posterize operations may keep 0 bits, for which Pillow 13 raises ValueError and earlier releases return a
    black image; here they keep at least one bit.

    Args:
        augmentation: Its ``rand_augment_*`` and ``interpolation`` are used; the magnitude must not be ``None``.
        mean: Mean per channel in [0, 1], used to fill uncovered corners.

    Returns:
        A function of uint8 images (3, H, W).
    """
    return _OnTensors(RandAugment(operations(augmentation, mean), augmentation.rand_augment_num_ops))


def operations(augmentation: Augmentation, mean: list[float]) -> list[Any]:
    """Return timm's operations with the faster functions of this module; arguments as in :func:`rand_augment`.

    Returns:
        A list of ``timm.data.auto_augment.AugmentOp`` for uint8 arrays (H, W, 3).
    """
    hparams: dict[str, Any] = {
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "magnitude_std": math.inf if augmentation.rand_augment_std == "uniform" else augmentation.rand_augment_std,
    }
    if augmentation.interpolation != "random":
        hparams["interpolation"] = str_to_pil_interp(augmentation.interpolation)
    names = rand_augment_choices("", increasing=augmentation.rand_augment_increasing)
    ops: list[Any] = rand_augment_ops(augmentation.rand_augment_magnitude, _PROB, hparams, names)
    for op in ops:
        kind = op.name.removesuffix("Increasing")
        if kind == "Posterize":
            op.level_fn = partial(_at_least_one_bit, op.level_fn)
        op.aug_fn = _FASTER[kind] if kind in _FASTER else partial(_with_pillow, op.aug_fn)
    return ops


class _OnTensors:
    def __init__(self, augment: Callable[[Pixels], Pixels]) -> None:
        self._augment = augment

    def __call__(self, image: Tensor) -> Tensor:
        pixels = image.permute(1, 2, 0).contiguous().numpy()  # (3, H, W) -> (H, W, 3)
        augmented = self._augment(pixels)
        return from_numpy(augmented if augmented.flags.writeable else augmented.copy()).permute(2, 0, 1)


def _at_least_one_bit(
    level_fn: Callable[[float, dict[str, Any]], tuple[int]], level: float, hparams: dict[str, Any]
) -> tuple[int]:
    return (max(1, level_fn(level, hparams)[0]),)


def _with_pillow(operation: Callable[..., Image.Image], image: Pixels, *level: Any, **options: Any) -> Pixels:
    return np.asarray(operation(Image.fromarray(image), *level, **options))


def _look_up(image: Pixels, table: Pixels) -> Pixels:
    """Apply a table of 256 levels to all channels; ``bytes.translate`` is faster than NumPy's indexing."""
    return np.frombuffer(image.tobytes().translate(table.tobytes()), np.uint8).reshape(image.shape)


def _blend(start: NDArray[Any], end: NDArray[Any], factor: float) -> Pixels:
    """Blend like Pillow's ``Image.blend``: in single precision, rounded down."""
    blended = end.astype(np.float32)
    blended -= start
    blended *= np.float32(factor)
    blended += start
    np.clip(blended, 0, 255, out=blended)
    return blended.astype(np.uint8)


_LEVELS = np.arange(256, dtype=np.uint8)


def _auto_contrast(image: Pixels, **_: Any) -> Pixels:
    low = image.min(axis=0).min(axis=0).astype(np.float64)
    high = image.max(axis=0).max(axis=0)
    if not low.any() and high.min() == 255:
        return image
    scale = 255.0 / np.maximum(high - low, 1)
    stretched = np.arange(256) * scale[:, None] + (-low * scale)[:, None]
    tables = np.where((high > low)[:, None], np.clip(stretched, 0, 255).astype(np.uint8), _LEVELS)
    return np.asarray(Image.fromarray(image).point(tables.ravel().tolist()))


def _invert(image: Pixels, **_: Any) -> Pixels:
    return np.subtract(255, image, dtype=np.uint8)


def _posterize(image: Pixels, bits: int, **_: Any) -> Pixels:
    return image & np.uint8(256 - 2 ** (8 - bits)) if bits < 8 else image


def _solarize(image: Pixels, threshold: int, **_: Any) -> Pixels:
    return image ^ _mask(image >= threshold)


def _solarize_add(image: Pixels, add: int, **_: Any) -> Pixels:
    return image + (np.minimum(_invert(image), np.uint8(add)) & _mask(image < 128))


def _mask(where: NDArray[np.bool_]) -> Pixels:
    """Return 255 where the condition is true, otherwise 0."""
    return np.negative(where.view(np.uint8))


def _brightness(image: Pixels, factor: float, **_: Any) -> Pixels:
    return _look_up(image, _blend(np.zeros(256), _LEVELS, factor))


def _contrast(image: Pixels, factor: float, **_: Any) -> Pixels:
    gray = np.asarray(Image.fromarray(image).convert("L"))
    mean = int(float(gray.sum(dtype=np.int64)) / gray.size + 0.5)
    return _look_up(image, _blend(np.full(256, mean), _LEVELS, factor))


def _sharpness(image: Pixels, factor: float, **_: Any) -> Pixels:
    """Blend with Pillow's ``SMOOTH``, a 3×3 mean in which the center has weight five; edges do not change."""
    wide = image.astype(np.uint16)
    rows = wide[:, :-2] + wide[:, 1:-1]
    rows += wide[:, 2:]
    total = rows[:-2] + rows[1:-1]
    total += rows[2:]
    inner = wide[1:-1, 1:-1]
    total += 4 * inner
    total = (2 * total + 13) // 26  # to the nearest thirteenth
    sharpened = image.copy()
    sharpened[1:-1, 1:-1] = _blend(total, inner, factor)
    return sharpened


def _shear(axis: int, image: Pixels, factor: float, *, fillcolor: tuple[int, ...], resample: Any) -> Pixels:
    """Shift each row (axis 1) or column (axis 0) along itself by ``factor`` times its position."""
    lines, length = image.shape[1 - axis], image.shape[axis]
    offsets = factor * (np.arange(lines) + 0.5)
    shifts = np.floor(offsets)
    fraction = offsets - shifts
    fraction = fraction[:, None, None] if axis == 1 else np.repeat(fraction, 3).reshape(1, lines, 3)
    moved = _interpolated(image, axis, shifts.astype(np.int64), length, fraction, resample)
    places = np.arange(length) + 0.5
    source = places + offsets[:, None] if axis == 1 else places[:, None] + offsets
    moved[(source < 0) | (source >= length)] = fillcolor
    return moved


def _translate(axis: int, image: Pixels, share: float, *, fillcolor: tuple[int, ...], resample: Any) -> Pixels:
    """Shift all rows (axis 1) or columns (axis 0) along themselves by a fraction of their length."""
    lines, length = image.shape[1 - axis], image.shape[axis]
    source = np.arange(length) + 0.5 + share * length
    covered = np.flatnonzero((source >= 0) & (source < length))
    begin, end = (int(covered[0]), int(covered[-1]) + 1) if len(covered) else (0, 0)
    filled = np.empty_like(image)
    along = filled if axis == 1 else filled.swapaxes(0, 1)  # (line, pixel, channel)
    along[:, :begin] = along[:, end:] = fillcolor
    if begin < end:
        places = source[begin:end] - 0.5
        shift = int(np.floor(places[0]))
        fraction = places - (shift + np.arange(end - begin))
        fraction = np.repeat(fraction, 3).reshape(1, -1, 3) if axis == 1 else fraction[:, None, None]
        moved = _interpolated(image, axis, np.full(lines, shift), end - begin, fraction, resample)
        along[:, begin:end] = moved if axis == 1 else moved.swapaxes(0, 1)
    return filled


def _interpolated(
    image: Pixels, axis: int, shifts: NDArray[np.int64], length: int, fraction: NDArray[np.float64], resample: Any
) -> Pixels:
    """Interpolate ``length`` pixels of each line at a subpixel offset, like Pillow, in double precision.

    Args:
        image: Shape (H, W, 3).
        axis: 1 if lines are rows, 0 if they are columns.
        shifts: The pixel before each line's first position.
        length: Number of pixels per line.
        fraction: Offset from that pixel, in [0, 1), broadcastable to the result.
        resample: Pillow's filter, bilinear or bicubic, or several to draw one from.
    """
    cubic = (random.choice(resample) if isinstance(resample, (list, tuple)) else resample) == Image.Resampling.BICUBIC
    taps = 4 if cubic else 2
    aligned = _aligned(image, axis, shifts - cubic, length + taps - 1)
    neighbors = [aligned[:, k : k + length] if axis == 1 else aligned[k : k + length] for k in range(taps)]
    return _cubic(fraction, *neighbors) if cubic else _linear(fraction, *neighbors)


def _aligned(image: Pixels, axis: int, starts: NDArray[np.int64], length: int) -> Pixels:
    """Copy ``length`` pixels of each line from its start, with edges repeated twice and undefined values beyond.

    Args:
        image: Shape (H, W, 3).
        axis: 1 for rows, 0 for columns.
        starts: First pixel of each line; lines with equal starts in a row are copied together.
        length: Number of pixels per line.
    """
    size = image.shape[axis]
    before, after = max(2, -int(starts.min())), max(2, int(starts.max()) + length - size)
    shape = [*image.shape]
    shape[axis] = before + size + after
    padded = np.empty(shape, np.uint8)
    shape[axis] = length
    aligned = np.empty(shape, np.uint8)
    # views of all three as (line, pixel, channel)
    source, wide, target = (array if axis == 1 else array.swapaxes(0, 1) for array in (image, padded, aligned))
    wide[:, before : before + size] = source
    wide[:, before - 2 : before] = source[:, :1]
    wide[:, before + size : before + size + 2] = source[:, -1:]
    ends = [*(np.flatnonzero(np.diff(starts)) + 1).tolist(), len(starts)]
    begin = 0
    for end in ends:
        start = before + int(starts[begin])
        target[begin:end] = wide[begin:end, start : start + length]
        begin = end
    return aligned


def _linear(fraction: NDArray[np.float64], left: Pixels, right: Pixels) -> Pixels:
    value = right.astype(np.float64)
    value -= left
    value *= fraction
    value += left
    return value.astype(np.uint8)


def _cubic(fraction: NDArray[np.float64], v1: Pixels, v2: Pixels, v3: Pixels, v4: Pixels) -> Pixels:
    """Interpolate with Pillow's cubic filter, whose coefficients are all integers."""
    w1, w2, w3, w4 = (pixels.astype(np.int16) for pixels in (v1, v2, v3, v4))
    falling, rising = w1 - w2, w3 - w4
    value = (-falling - rising) * fraction
    value += 2 * falling + rising
    value *= fraction
    value += w3 - w1
    value *= fraction
    value += w2
    np.clip(value, 0, 255, out=value)
    return value.astype(np.uint8)


_FASTER: dict[str, Callable[..., Pixels]] = {
    "AutoContrast": _auto_contrast,
    "Contrast": _contrast,
    "Invert": _invert,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": partial(_shear, 1),
    "ShearY": partial(_shear, 0),
    "TranslateXRel": partial(_translate, 1),
    "TranslateYRel": partial(_translate, 0),
}
"""By timm's name, without ``Increasing``; the other operations use Pillow, which is as fast as NumPy."""
