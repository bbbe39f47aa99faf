"""The evaluation's resize and crop, for pictures with masks and boxes, pixel for pixel as in timm."""

import math
from typing import Any

import torch
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as joint
from torchvision.tv_tensors import BoundingBoxes, Mask, TVTensor

from inceptionnext_lit.data.transforms.random_crop import Picture
from inceptionnext_lit.preprocessing import IGNORED, Preprocessing, height_and_width


class ResizeAndCrop:
    """Resize a picture and keep its center; see :class:`Preprocessing` for the modes.

    Args:
        preprocessing: The transform as plain data.
        crop_pct: Fraction of the resized picture's sides to keep.
    """

    def __init__(self, preprocessing: Preprocessing, crop_pct: float) -> None:
        self._size = height_and_width(preprocessing)
        self._mean = preprocessing["mean"]
        self._mode = preprocessing.get("crop_mode", "center")
        interpolation = InterpolationMode(preprocessing["interpolation"])
        height, width = (math.floor(side / crop_pct) for side in self._size)
        if self._mode == "squash":
            self._resize: Any = v2.Resize([height, width], interpolation)
        elif self._mode == "center" and height == width:
            self._resize = v2.Resize(height, interpolation)  # rounds differently from ResizeKeepRatio
        else:
            longest = float(self._mode == "border")
            self._resize = ResizeKeepRatio((height, width), longest=longest, interpolation=interpolation.value)

    def __call__(self, picture: Picture, *targets: TVTensor) -> tuple[Picture, ...]:
        """Resize and crop a picture, with its masks and boxes."""
        if self._mode == "border" and isinstance(picture, Tensor):
            # torchvision fills tensors with a single number, so the mean is subtracted first
            mean = torch.tensor(self._mean).view(-1, 1, 1)
            return self._crop_or_pad(self._resize(picture - mean), 0) + mean, *self._follow(picture, targets)
        resized = self._resize(picture)
        fill = [round(255 * value) for value in self._mean]
        cropped = self._crop_or_pad(resized, fill) if self._mode == "border" else v2.CenterCrop(self._size)(resized)
        return cropped, *self._follow(picture, targets)

    def _crop_or_pad(self, picture: Any, fill: Any) -> Any:
        return CenterCropOrPad(self._size, fill=fill)(picture)

    def _follow(self, picture: Picture, targets: tuple[TVTensor, ...]) -> list[TVTensor]:
        """Resize, pad and crop masks and boxes like the picture."""
        if not targets:
            return []
        height, width = joint.get_size(self._resize(picture))
        rows, columns = max(0, self._size[0] - height), max(0, self._size[1] - width)
        padding = [columns // 2, rows // 2, (columns + 1) // 2, (rows + 1) // 2]
        moved = []
        for target in targets:
            resized = joint.resize(target, [height, width])
            padded = joint.pad(resized, padding, fill=IGNORED if isinstance(target, Mask) else 0)
            moved.append(joint.center_crop(padded, list(self._size)))
        return moved


def check_targets(targets: tuple[TVTensor, ...]) -> None:
    """Refuse targets that torchvision would take for images.

    Args:
        targets: The targets that are transformed with an image.

    Raises:
        TypeError: If one is not a ``Mask`` or ``BoundingBoxes``.
    """
    for target in targets:
        if not isinstance(target, Mask | BoundingBoxes):
            raise TypeError(f"Targets are torchvision's Mask or BoundingBoxes; got {type(target).__name__}.")
