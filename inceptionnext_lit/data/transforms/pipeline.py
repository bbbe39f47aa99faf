"""Transforms from an image to the pixels of a batch, with augmentation for training and without for evaluation.

Pixels are bytes (3, H, W) for RGB images, and floats in [0, 1] for images with other channels. Whole batches are
converted to the model's input later: see :mod:`inceptionnext_lit.data.device_batch`.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2 import functional as joint
from torchvision.tv_tensors import Mask, TVTensor

from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.decode.jpeg import open_jpeg
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.sources.scan import is_rank_zero
from inceptionnext_lit.data.transforms.augmentation import Augmentation
from inceptionnext_lit.data.transforms.rand_augment import rand_augment
from inceptionnext_lit.data.transforms.random_crop import FastReader, Picture, RandomCrop, Reader
from inceptionnext_lit.data.transforms.resizing import ResizeAndCrop, check_targets
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED, Preprocessing, height_and_width

Step = Callable[..., tuple[Any, ...]]
"""Takes a picture and its masks and boxes, and returns them."""


def reader(preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Reader:
    """Build a function that reads image files for a model, replacing pixels without data by the mean.

    Args:
        preprocessing: Preprocessing of the model's input.
        max_pixels: Maximum number of pixels of an image.
    """
    mean, nodata = preprocessing["mean"], preprocessing.get("nodata")
    apply_exif = preprocessing.get("exif") != "ignore"
    return partial(
        load_image, channels=len(mean), max_pixels=max_pixels, nodata=nodata, fill=mean, apply_exif=apply_exif
    )


class Transform:
    """Steps from a picture to the pixels of a batch, with optional masks and boxes.

    Args:
        steps: Called one after the other.
        load: Reads an image file, see :func:`reader`.
        crop: A random crop that comes first.
        open_fast: Opens JPEG files, to decode only what the crop needs; None if that is not possible.
        moves_pixels: Name of a step that moves pixels in a way that masks and boxes cannot follow; None if there is
            none.
    """

    def __init__(
        self,
        steps: list[Step],
        load: Reader,
        crop: RandomCrop | None = None,
        open_fast: FastReader | None = None,
        moves_pixels: str | None = None,
    ) -> None:
        self._steps = steps
        self._load = load
        self._crop = crop
        self._open_fast = open_fast
        self._moves_pixels = moves_pixels

    def __call__(self, picture: Picture) -> Tensor:
        """Return the pixels (C, H, W) of a picture: uint8 if RGB, otherwise float32 in [0, 1]."""
        return self.joint(picture)[0]

    def read(self, path: str) -> Tensor:
        """Return the pixels of an image file; of a JPEG, only the needed part is decoded.

        Raises:
            UserError: If it cannot be read; see :func:`load_image`.
        """
        return self.read_joint(path)[0]

    def joint(self, picture: Picture, *targets: TVTensor) -> tuple[Tensor, ...]:
        """Transform a picture with its masks and boxes.

        Args:
            picture: The picture.
            *targets: torchvision's ``Mask`` and ``BoundingBoxes`` of the same height and width. Masks are resized
                without interpolation, and are ``IGNORED`` outside the picture.

        Returns:
            The pixels, and the targets.

        Raises:
            TypeError: If a target is something else.
            UserError: If a step moves pixels in a way that targets cannot follow.
        """
        self._check(targets)
        return self._run((picture, *targets) if self._crop is None else self._crop(picture, *targets))

    def read_joint(self, path: str, *targets: TVTensor) -> tuple[Tensor, ...]:
        """Transform an image file with its masks and boxes; see :meth:`joint` and :meth:`read`."""
        self._check(targets)
        if self._crop is not None and self._open_fast is not None:
            return self._run(self._crop.read(path, *targets, load=self._load, open_fast=self._open_fast))
        return self.joint(self._load(path), *targets)

    def _check(self, targets: tuple[TVTensor, ...]) -> None:
        check_targets(targets)
        if targets and self._moves_pixels is not None:
            raise UserError(
                f"{self._moves_pixels} moves pixels, but not masks and boxes; set "
                "data.augmentation.rand_augment_magnitude to null."
            )

    def _run(self, sample: tuple[Any, ...]) -> tuple[Tensor, ...]:
        for step in self._steps:
            sample = step(*sample)
        return sample


def train_transform(
    augmentation: Augmentation, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Transform:
    """Build the training transform, which draws from the generators of Python, NumPy and torch.

    Args:
        augmentation: The random augmentation; erasing is applied to batches instead.
        preprocessing: The evaluation transform, for its size and mean.
        max_pixels: Maximum number of pixels of an image.
    """
    size, channels = height_and_width(preprocessing), len(preprocessing["mean"])
    if channels != 3:
        augmentation = _without_color(augmentation, channels)
    crop, steps = None, list[Step]()
    if augmentation.pad_crop or augmentation.scale is None:
        steps.append(ResizeAndCrop(preprocessing, 1.0 if augmentation.pad_crop else preprocessing["crop_pct"]))
    else:
        crop = RandomCrop(size, augmentation.scale, augmentation.ratio, augmentation.interpolation)
    steps.append(partial(_on_picture, _to_pixels))
    if augmentation.pad_crop:
        fill: Any = {Mask: IGNORED, "others": 0}
        steps.append(partial(_together, v2.RandomCrop(size, padding=augmentation.pad_crop, fill=fill)))
    steps.append(partial(_flip, augmentation.hflip))
    magnitude = augmentation.rand_augment_magnitude
    if magnitude is not None:
        steps.append(partial(_on_picture, rand_augment(augmentation, preprocessing["mean"])))
    elif augmentation.color_jitter > 0:
        jitter = partial(_with_pillow, v2.ColorJitter(*[augmentation.color_jitter] * 3))
        steps.append(partial(_on_picture, jitter))
    # decoding at a smaller scale would change the values that are compared with nodata
    is_plain = channels == 3 and "nodata" not in preprocessing
    apply_exif = preprocessing.get("exif") != "ignore"
    open_fast = partial(open_jpeg, max_pixels=max_pixels, apply_exif=apply_exif) if is_plain else None
    moves_pixels = None if magnitude is None else "RandAugment"
    return Transform(steps, reader(preprocessing, max_pixels), crop, open_fast, moves_pixels)


def eval_transform(preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Transform:
    """Build the evaluation transform.

    The shorter side is resized to ``image_size / crop_pct`` pixels, rounded down, and the center is kept; for other
    crop modes see :class:`Preprocessing`.

    Args:
        preprocessing: The transform as plain data.
        max_pixels: Maximum number of pixels of an image.
    """
    steps: list[Step] = [ResizeAndCrop(preprocessing, preprocessing["crop_pct"]), partial(_on_picture, _to_pixels)]
    return Transform(steps, reader(preprocessing, max_pixels))


def _without_color(augmentation: Augmentation, channels: int) -> Augmentation:
    """Turn off augmentation that supports only RGB images, with a warning."""
    left_out = {
        "RandAugment": augmentation.rand_augment_magnitude is not None,
        "color jitter": augmentation.color_jitter > 0,
    }
    names = [name for name, is_on in left_out.items() if is_on]
    if names and is_rank_zero():
        warnings.warn(
            f"Turned off, since they support only RGB images and these have {channels} channels: "
            f"{' and '.join(names)}.",
            stacklevel=2,
        )
    return replace(augmentation, rand_augment_magnitude=None, color_jitter=0)


def _on_picture(change: Callable[[Any], Any], picture: Any, *targets: TVTensor) -> tuple[Any, ...]:
    return change(picture), *targets


def _together(change: Callable[..., Any], pixels: Tensor, *targets: TVTensor) -> tuple[Any, ...]:
    changed = change(pixels, *targets)
    return changed if targets else (changed,)


def _flip(probability: float, pixels: Tensor, *targets: TVTensor) -> tuple[Any, ...]:
    if not torch.rand(1) < probability:
        return pixels, *targets
    return pixels.flip(-1), *map(joint.horizontal_flip, targets)


def _to_pixels(image: Picture) -> Tensor:
    """Return a picture's pixels; those of an RGB picture keep its memory layout."""
    if isinstance(image, Tensor):
        return image
    if image.mode == "RGB":
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (H, W, 3) -> (3, H, W)
    pixels: Tensor = to_tensor(image)
    return pixels


def _with_pillow(transform: Callable[[Image.Image], Image.Image], pixels: Tensor) -> Tensor:
    return _to_pixels(transform(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())))
