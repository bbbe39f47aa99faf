"""Checks of images with masks before training, and the input format of segmentation."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from inceptionnext_lit.data.checks import check, enumerate_names
from inceptionnext_lit.data.input_format import InputOptions, input_format
from inceptionnext_lit.data.sources.sample_table import Samples
from inceptionnext_lit.data.transforms.resampling import fitted
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width

CropSize = int | list[int] | Literal["auto"]
"""Side of the training crops in pixels, their height and width, or ``auto``."""

_STRIDE = 32  # of the coarsest feature map
_LARGEST_AUTO = 512


def scene_format(crop_size: CropSize, scale: list[int] | None, in_chans: int, options: InputOptions) -> Preprocessing:
    """Return the input of a segmentation model as plain data.

    Args:
        crop_size: Side of the training crops in pixels, or their height and width; ``auto`` stands for 512 until the
            training images are known.
        scale: Longer and shorter side that evaluated images are resized to fit; None if they keep their size.
        in_chans: Number of channels.
        options: How images are normalized; evaluation has no crop, and resizes bilinearly.

    Raises:
        UserError: If a value is out of its range.
    """
    crop_size = _LARGEST_AUTO if crop_size == "auto" else crop_size
    sides = [crop_size, crop_size] if isinstance(crop_size, int) else list(crop_size)
    check("crop_size", crop_size, len(sides) == 2 and min(sides) >= 1, "1 pixel or more, or a height and a width")
    is_scale = scale is None or (len(scale) == 2 and min(scale) >= 1)
    check("scale", scale, is_scale, "a longer and a shorter side of 1 pixel or more, or null")
    preprocessing = input_format(crop_size, in_chans, options)
    preprocessing["crop_pct"], preprocessing["interpolation"] = 1.0, "bilinear"
    if scale is not None:
        preprocessing["scale"] = sorted(scale, reverse=True)
    return preprocessing


def check_split(train: Samples, val: Samples, names: Sequence[str], place: str) -> None:
    """Refuse to train without validation images, and warn of classes that no training image has.

    Args:
        train: The training images, with the classes of their masks.
        val: The validation images.
        names: The class names in index order.
        place: The folder of the training images.

    Raises:
        UserError: If there are no validation images.
    """
    if not len(val):
        raise UserError(f"{place} has too few images to hold one back for validation; add some, or a validation split.")
    present = set(np.unique(train.labels).tolist())
    if absent := [name for index, name in enumerate(names) if index not in present]:
        what = "the class" if len(absent) == 1 else "the classes"
        rank_zero_warn(
            f"No training image has a pixel of {what} {enumerate_names(absent)}, which the model cannot learn; add "
            "images with it, or leave it out of the classes."
        )


def auto_crop(sizes: Sequence[tuple[int, int]], scale: list[int] | None) -> int:
    """Return a side for training crops: the images' median shorter side, as a multiple of 32 from 32 to 512.

    Args:
        sizes: Width and height of each training image.
        scale: Longer and shorter side that they are resized to fit; None if they keep their size.
    """
    shorter = [min(width, height) if scale is None else min(fitted(height, width, *scale)) for width, height in sizes]
    return max(_STRIDE, min(_LARGEST_AUTO, int(median(shorter)) // _STRIDE * _STRIDE))


def check_crop(sizes: Sequence[tuple[int, int]], preprocessing: Preprocessing) -> None:
    """Refuse a crop that is larger than each training image in both directions, so that padding is all around.

    Args:
        sizes: Width and height of each training image.
        preprocessing: The size of the crop, and the scale.

    Raises:
        UserError: If it is.
    """
    rows, columns = height_and_width(preprocessing)
    scale = preprocessing.get("scale")
    resized = {(height, width) if scale is None else fitted(height, width, *scale) for width, height in set(sizes)}
    if all(height < rows and width < columns for height, width in resized):
        height, width = max(resized, key=lambda size: size[0] * size[1])
        how = "" if scale is None else f" at data.scale {scale}"
        side = min(height, width)
        raise UserError(
            f"data.crop_size is {rows}×{columns} (height × width), but the largest training image has {height}×{width} "
            f"pixels{how}; choose {side} or less, or a larger data.scale."
        )
