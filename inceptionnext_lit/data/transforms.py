"""From an image to the pixels that a batch is made of: augmented for training, plain for evaluation.

Pixels are bytes (3, S, S) of RGB images, and floats in [0, 1] of images with other channels. What makes a model's input
of them is done on whole batches: see :mod:`device_batch`.
"""

import math
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data.transforms import CenterCropOrPad, RandomResizedCropAndInterpolation, ResizeKeepRatio
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import resized_crop, to_tensor

from inceptionnext_lit.data.augmentation import Augmentation
from inceptionnext_lit.data.jpeg import Jpeg, open_jpeg
from inceptionnext_lit.data.loading import load_image
from inceptionnext_lit.data.opening import MAX_PIXELS
from inceptionnext_lit.data.rand_augment import rand_augment
from inceptionnext_lit.data.scan import is_first_process
from inceptionnext_lit.preprocessing import Preprocessing

Picture = Image.Image | Tensor
"""An image as :func:`load_image` gives it."""
Reader = Callable[[str], Picture]
FastReader = Callable[[str], Jpeg | None]


def reader(preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Reader:
    """Reads image files for a model; pixels without data get the mean, so that normalising makes them 0.

    Args:
        preprocessing: What the model expects.
        max_pixels: The most pixels that a file may have.
    """
    mean, nodata = preprocessing["mean"], preprocessing.get("nodata")
    turns = preprocessing.get("exif") != "ignore"
    return partial(load_image, channels=len(mean), max_pixels=max_pixels, nodata=nodata, fill=mean, turns=turns)


class Transform:
    """Steps from a picture to the pixels of a batch.

    Args:
        steps: Called one after the other.
        load: Reads an image file, see :func:`reader`.
        crop: A random crop that comes first.
        open_fast: Opens JPEG files so that no more is decoded than the crop needs; None where that is not possible.
    """

    def __init__(
        self,
        steps: list[Callable[[Any], Any]],
        load: "Reader",
        crop: "RandomCrop | None" = None,
        open_fast: "FastReader | None" = None,
    ) -> None:
        self._steps = steps
        self._load = load
        self._crop = crop
        self._open_fast = open_fast

    def __call__(self, picture: Picture) -> Tensor:
        """Pixels (C, S, S) of a picture: uint8 if RGB, float32 in [0, 1] otherwise."""
        return self._run(picture if self._crop is None else self._crop(picture))

    def read(self, path: str) -> Tensor:
        """Pixels of an image file, of JPEGs without decoding more than is needed.

        Raises:
            UserError: If it cannot be read; see :func:`load_image`.
        """
        if self._crop is not None and self._open_fast is not None:
            return self._run(self._crop.read(path, self._load, self._open_fast))
        return self(self._load(path))

    def _run(self, image: Picture) -> Tensor:
        result: Any = image
        for step in self._steps:
            result = step(result)
        pixels: Tensor = result
        return pixels


def train_transform(
    augmentation: Augmentation, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Transform:
    """Builds the training transform, which draws from the generators of Python, NumPy and torch.

    Args:
        augmentation: What is drawn at random; erasing is done on batches.
        preprocessing: The evaluation transform, whose size and mean hold here too.
        max_pixels: The most pixels that an image file may have.
    """
    size = preprocessing["image_size"]
    channels = len(preprocessing["mean"])
    if channels != 3:
        augmentation = _without_colour(augmentation, channels)
    crop, steps = None, list[Callable[[Any], Any]]()
    if augmentation.pad_crop or augmentation.scale is None:
        steps += _resize_and_crop(preprocessing, crop_pct=1.0 if augmentation.pad_crop else preprocessing["crop_pct"])
    else:
        crop = RandomCrop(size, augmentation.scale, augmentation.ratio, augmentation.interpolation)
    steps.append(_to_pixels)
    if augmentation.pad_crop:
        steps.append(v2.RandomCrop(size, padding=augmentation.pad_crop))
    steps.append(partial(_flip, augmentation.hflip))
    if augmentation.rand_augment_magnitude is not None:
        steps.append(rand_augment(augmentation, preprocessing["mean"]))
    elif augmentation.color_jitter > 0:
        steps.append(partial(_with_pillow, v2.ColorJitter(*[augmentation.color_jitter] * 3)))
    is_plain = (
        channels == 3 and "nodata" not in preprocessing
    )  # lossy files are compared with it as a whole or not at all
    turns = preprocessing.get("exif") != "ignore"
    open_fast = partial(open_jpeg, max_pixels=max_pixels, turns=turns) if is_plain else None
    return Transform(steps, reader(preprocessing, max_pixels), crop, open_fast)


def _without_colour(augmentation: Augmentation, channels: int) -> Augmentation:
    """Leaves out, with a warning, what there is for RGB images only."""
    left_out = {
        "RandAugment": augmentation.rand_augment_magnitude is not None,
        "colour jitter": augmentation.color_jitter > 0,
    }
    names = [name for name, is_on in left_out.items() if is_on]
    if names and is_first_process():
        warnings.warn(
            f"Left out of the augmentation, since it is for RGB images and these have {channels} channels: "
            f"{' and '.join(names)}.",
            stacklevel=2,
        )
    return replace(augmentation, rand_augment_magnitude=None, color_jitter=0)


def eval_transform(preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Transform:
    """Builds the evaluation transform.

    The shorter side is resized to ``image_size / crop_pct`` pixels, rounded down, and the centre is kept; for other
    modes of cropping see :class:`Preprocessing`.

    Args:
        preprocessing: The transform as plain data.
        max_pixels: The most pixels that an image file may have.
    """
    steps = _resize_and_crop(preprocessing, preprocessing["crop_pct"])
    return Transform([*steps, _to_pixels], reader(preprocessing, max_pixels))


class _Drawn(NamedTuple):
    """A crop of an upright picture, in pixels, and the filter with which it is resized."""

    top: int
    left: int
    height: int
    width: int
    interpolation: InterpolationMode


class RandomCrop:
    """timm's crop of random size and shape, resized to a square with a filter that may be random.

    Pictures are resized by Pillow, exactly as timm does it; JPEG files by torch, whose kernels for bytes are several
    times as fast and differ by one or two levels of 255 here and there.

    Args:
        size: Side S of the square, in pixels.
        scale: Range of the crop's area, as a share of the image.
        ratio: Range of its width divided by its height.
        interpolation: ``"bilinear"``, ``"bicubic"``, or ``"random"`` for one of them for each image.
    """

    def __init__(self, size: int, scale: tuple[float, float], ratio: tuple[float, float], interpolation: str) -> None:
        self._size = size
        self._scale = scale
        self._ratio = ratio
        names = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
        self._filters = [InterpolationMode(name) for name in names]

    def __call__(self, picture: Picture) -> Picture:
        """Crops and resizes a picture."""
        size = picture.size if isinstance(picture, Image.Image) else (picture.shape[-1], picture.shape[-2])
        return self._crop(picture, self._draw(*size, is_tensor=isinstance(picture, Tensor)))

    def read(self, path: str, load: Reader = load_image, open_fast: FastReader = open_jpeg) -> Picture:
        """Crops and resizes an image file; the same draws as of its picture.

        Args:
            path: The file.
            load: Reads it.
            open_fast: Opens it if it is a JPEG.

        Raises:
            UserError: If it cannot be read.
        """
        jpeg = open_fast(path)
        if jpeg is None:
            return self(load(path))
        drawn = self._draw(*jpeg.size)
        pixels = jpeg.crop(*drawn[:4], at_least=self._size)
        if pixels is None:
            return self._crop(load(path), drawn)
        batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # (H, W, 3) -> (1, 3, H, W), channels last
        size, mode = (self._size, self._size), drawn.interpolation.value
        return torch.nn.functional.interpolate(batch, size, mode=mode, antialias=True)[0]

    def _draw(self, width: int, height: int, *, is_tensor: bool = False) -> _Drawn:
        nothing = torch.empty((1, height, width), device="meta")  # timm asks an image for its size
        top, left, rows, columns = RandomResizedCropAndInterpolation.get_params(nothing, self._scale, self._ratio)
        if is_tensor:
            return _Drawn(top, left, rows, columns, InterpolationMode.BICUBIC)
        interpolation = random.choice(self._filters) if len(self._filters) > 1 else self._filters[0]
        return _Drawn(top, left, rows, columns, interpolation)

    def _crop(self, picture: Picture, drawn: _Drawn) -> Picture:
        *box, interpolation = drawn
        cropped: Picture = resized_crop(picture, *box, [self._size, self._size], interpolation)
        return cropped


def _to_pixels(image: Picture) -> Tensor:
    """A picture's pixels; the bytes of an RGB one lie in memory as in the picture."""
    if isinstance(image, Tensor):
        return image
    if image.mode == "RGB":
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)
    pixels: Tensor = to_tensor(image)
    return pixels


def _flip(probability: float, pixels: Tensor) -> Tensor:
    return pixels.flip(-1) if torch.rand(1) < probability else pixels


def _with_pillow(transform: Callable[[Image.Image], Image.Image], pixels: Tensor) -> Tensor:
    return _to_pixels(transform(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())))


def _resize_and_crop(preprocessing: Preprocessing, crop_pct: float) -> list[Any]:
    size = preprocessing["image_size"]
    interpolation = InterpolationMode(preprocessing["interpolation"])
    side, mode = math.floor(size / crop_pct), preprocessing.get("crop_mode", "center")
    if mode == "border":
        return [partial(_fill_up, size, side, interpolation, preprocessing["mean"])]
    return [v2.Resize([side, side] if mode == "squash" else side, interpolation), v2.CenterCrop(size)]


def _fill_up(size: int, side: int, interpolation: InterpolationMode, mean: list[float], picture: Picture) -> Picture:
    """Resize a picture's longer side, fill it up to a square with the mean, and keep the centre."""
    is_tensor = isinstance(picture, Tensor)
    fill = 0 if is_tensor else [round(255 * value) for value in mean]
    steps = ResizeKeepRatio(side, longest=1.0, interpolation=interpolation.value), CenterCropOrPad(size, fill=fill)
    # torchvision fills tensors with one number only, so that the mean is 0 meanwhile
    offset: Any = torch.tensor(mean).view(-1, 1, 1) if is_tensor else None
    filled: Any = picture
    filled = filled - offset if is_tensor else filled
    for step in steps:
        filled = step(filled)
    result: Picture = filled + offset if is_tensor else filled
    return result
