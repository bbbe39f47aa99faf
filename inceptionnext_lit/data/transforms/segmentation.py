"""Joint transforms of images and masks: mmsegmentation's pipeline, and milder and stronger ones for small data sets."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as joint
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.data.decode.jpeg import Jpeg, open_jpeg
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.transforms.photometric import distort
from inceptionnext_lit.data.transforms.pipeline import reader
from inceptionnext_lit.data.transforms.random_crop import Picture
from inceptionnext_lit.data.transforms.resampling import Box, as_tensor, fitted, resample, size_of
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED, Preprocessing, Size, height_and_width

SegmentationLevel = Literal["none", "light", "strong", "mmseg"]
_REDRAWS = 10


@dataclass(frozen=True)
class SegmentationAugmentation:
    """Augmentation of training images with their masks; the defaults are mmsegmentation's pipeline for ADE20K.

    Attributes:
        ratio: Range of the factor by which the image is resized, relative to ``data.scale``, or to its own size without
            one; ``None``: not resized at random.
        cat_max_ratio: A crop is drawn again, at most ten times, while one class has this share of its labeled pixels or
            more, or it has one class only; 1: the first crop is used.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip, for pictures without an up and down, such as aerial images.
        rotation: Maximum angle of a random rotation, in degrees; half of the images are rotated.
        distortion: Whether brightness, contrast, saturation and hue are changed, as in mmsegmentation.

    Raises:
        UserError: If a value is out of its range.
    """

    ratio: tuple[float, float] | None = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    hflip: float = 0.5
    vflip: float = 0.0
    rotation: float = 0.0
    distortion: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choices(self, "data.augmentation")
        probability = "a probability from 0 to 1"
        rules = {
            "ratio": (self.ratio is None or 0 < self.ratio[0] <= self.ratio[1], "0 < low <= high, or null"),
            "cat_max_ratio": (0 < self.cat_max_ratio <= 1, "above 0 and at most 1"),
            "hflip": (0 <= self.hflip <= 1, probability),
            "vflip": (0 <= self.vflip <= 1, probability),
            "rotation": (0 <= self.rotation <= 180, "from 0 to 180 degrees"),
        }
        for name, (valid, expected) in rules.items():
            check(f"augmentation.{name}", getattr(self, name), valid, expected)


SEGMENTATION_LEVELS: dict[SegmentationLevel, SegmentationAugmentation] = {
    "none": SegmentationAugmentation(ratio=None, cat_max_ratio=1, hflip=0, distortion=False),
    "light": SegmentationAugmentation(ratio=(0.75, 1.5), distortion=False),
    "strong": SegmentationAugmentation(rotation=15),
    "mmseg": SegmentationAugmentation(),
}


def augmentation_of(given: SegmentationLevel | SegmentationAugmentation) -> SegmentationAugmentation:
    """Return the augmentation of a level, or the given one.

    Raises:
        UserError: If there is no such level.
    """
    if isinstance(given, SegmentationAugmentation):
        return given
    levels = f"one of {', '.join(SEGMENTATION_LEVELS)}, or a SegmentationAugmentation"
    check("augmentation", given, given in SEGMENTATION_LEVELS, levels)
    return SEGMENTATION_LEVELS[given]


class Crop(NamedTuple):
    """A training crop.

    Attributes:
        pixels: Shape (C, H, W), uint8 if RGB, otherwise float32 in [0, 1]; 0 outside the image.
        mask: Class indices, uint8 (H, W); 255 outside the image.
        inside: Height and width of the part, at the top left, that the image covers.
    """

    pixels: Tensor
    mask: Tensor
    inside: Size


class TrainingCrop:
    """Resize, crop, flip and distort an image with its mask, by draws from the generators of NumPy and Python.

    Args:
        augmentation: What is random.
        preprocessing: Size of the crop, the scale, and the number of channels.
        max_pixels: Maximum number of pixels of an image.
    """

    def __init__(
        self, augmentation: SegmentationAugmentation, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.augmentation = augmentation
        self._size = height_and_width(preprocessing)
        self._scale = preprocessing.get("scale")
        self._has_color = len(preprocessing["mean"]) == 3
        self._load = reader(preprocessing, max_pixels)
        self._open = _opener(preprocessing, max_pixels)

    def read(self, path: str, mask: NDArray[np.uint8]) -> Crop:
        """Return a random crop of an image file and its mask; a JPEG is decoded at the scale that the crop needs.

        Args:
            path: The image.
            mask: Its class indices, (H, W).

        Raises:
            UserError: If the image cannot be read, or its mask has another size.
        """
        picture: Picture | Jpeg = self._open(path) or self._load(path)
        _check_size(path, size_of(picture), mask)
        size = self._drawn_size(size_of(picture))
        resized = joint.resize(Mask(torch.from_numpy(mask)[None]), list(size))
        box = draw_box(resized[0].numpy(), self._size, self.augmentation.cat_max_ratio)
        pixels = resample(picture, size, box)
        if pixels is None:
            pixels = resample(self._load(path), size, box)
        assert pixels is not None
        return self._finished(ImageTensor(as_tensor(pixels)), joint.crop(resized, *box))

    def _drawn_size(self, own: Size) -> Size:
        """Draw the height and width to resize to, as mmcv's RandomResize and Resize."""
        longer, shorter = self._scale or (max(own), min(own))
        if self.augmentation.ratio is not None:
            low, high = self.augmentation.ratio
            factor = np.random.random_sample() * (high - low) + low
            longer, shorter = int(longer * factor), int(shorter * factor)
        return fitted(*own, longer, shorter)

    def _finished(self, image: ImageTensor, mask: Mask) -> Crop:
        augmentation = self.augmentation
        inside = (image.shape[-2], image.shape[-1])
        if augmentation.hflip and np.random.random_sample() < augmentation.hflip:
            image, mask = joint.horizontal_flip(image), joint.horizontal_flip(mask)
        if augmentation.vflip and np.random.random_sample() < augmentation.vflip:
            image, mask = joint.vertical_flip(image), joint.vertical_flip(mask)
        if augmentation.rotation and random.random() < 0.5:
            angle = random.uniform(-augmentation.rotation, augmentation.rotation)
            image = joint.rotate(image, angle, InterpolationMode.BILINEAR, fill=[0.0] * len(image))
            mask = joint.rotate(mask, angle, InterpolationMode.NEAREST, fill=[IGNORED])
        pixels: Tensor = image.as_subclass(Tensor)
        if augmentation.distortion and self._has_color:
            changed = distort(pixels.permute(1, 2, 0).contiguous().numpy())
            pixels = as_tensor(changed)
        padding = [0, 0, self._size[1] - inside[1], self._size[0] - inside[0]]
        if any(padding):
            pixels, mask = joint.pad(pixels, padding, fill=0), joint.pad(mask, padding, fill=IGNORED)
        return Crop(pixels, mask.as_subclass(Tensor)[0], inside)


class TestScale:
    """Resize an image to fit the test scale, with its ratio kept, without a crop.

    Args:
        preprocessing: The scale, and the number of channels.
        max_pixels: Maximum number of pixels of an image.

    Attributes:
        keeps_size: Whether images keep their size, as a model that resizes them to several scales needs them.
    """

    __test__ = False  # pytest would take it for a test

    def __init__(self, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> None:
        self.keeps_size = False
        self._scale = preprocessing.get("scale")
        self._load = reader(preprocessing, max_pixels)
        self._open = _opener(preprocessing, max_pixels)

    def read(self, path: str) -> tuple[Tensor, Size]:
        """Return the pixels of an image file (C, h, w), at the test scale by default, and its own height and width.

        Raises:
            UserError: If it cannot be read.
        """
        picture: Picture | Jpeg = self._open(path) or self._load(path)
        own = size_of(picture)
        pixels = resample(picture, self._target(own))
        return (self.resize(self._load(path)), own) if pixels is None else (as_tensor(pixels), own)

    def resize(self, picture: Picture) -> Tensor:
        """Return the pixels of a picture (C, h, w), at the test scale by default.

        Args:
            picture: As :func:`reader` returns it.
        """
        pixels = resample(picture, self._target(size_of(picture)))
        assert pixels is not None  # only JPEG files can be damaged
        return as_tensor(pixels)

    def _target(self, own: Size) -> Size:
        return own if self._scale is None or self.keeps_size else fitted(*own, *self._scale)


def draw_box(mask: NDArray[np.uint8], size: Size, cat_max_ratio: float) -> Box:
    """Draw the part of an image for a crop, as mmsegmentation's RandomCrop; it is smaller if the image is.

    Args:
        mask: Class indices of the resized image, (H, W).
        size: Height and width of the crop.
        cat_max_ratio: See :class:`SegmentationAugmentation`.
    """
    box = _any_box(mask, size)
    if cat_max_ratio >= 1:
        return box
    for _ in range(_REDRAWS):
        top, left, height, width = box
        part = np.ascontiguousarray(mask[top : top + height, left : left + width])
        counts = np.array(Image.fromarray(part).histogram()[:IGNORED])  # faster than NumPy's bincount
        if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < cat_max_ratio:
            break
        box = _any_box(mask, size)
    return box


def _any_box(mask: NDArray[np.uint8], size: Size) -> Box:
    height, width = mask.shape
    top = np.random.randint(0, max(height - size[0], 0) + 1)
    left = np.random.randint(0, max(width - size[1], 0) + 1)
    return top, left, min(size[0], height), min(size[1], width)


def _opener(preprocessing: Preprocessing, max_pixels: int) -> Callable[[str], Jpeg | None]:
    """Return what opens JPEG files without decoding them, unless pixels are compared with a value for no data."""
    if len(preprocessing["mean"]) != 3 or "nodata" in preprocessing:
        return _never
    return partial(open_jpeg, max_pixels=max_pixels, apply_exif=preprocessing.get("exif") != "ignore")


def _never(path: str) -> None:
    return None


def _check_size(path: str, size: Size, mask: NDArray[np.uint8]) -> None:
    if size != mask.shape:
        raise UserError(
            f"The mask of {path} has {mask.shape[1]}×{mask.shape[0]} pixels, and the image {size[1]}×{size[0]}; give "
            "both the same size."
        )
