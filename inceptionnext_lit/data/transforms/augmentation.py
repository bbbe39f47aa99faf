"""Random augmentation in training, as plain data."""

import math
from dataclasses import dataclass
from typing import Literal

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import check

Level = Literal["none", "light", "medium", "strong"]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; the defaults are the paper's ImageNet recipe.

    Attributes:
        scale: Range of the random crop's area, as a fraction of the image; ``None``: the evaluation's resize and center
            crop instead of a random crop.
        ratio: Range of the random crop's width divided by its height.
        pad_crop: For images of 28 or 32 pixels: width in pixels of the black padding around the resized image, from
            which a random crop of the image's size is taken; replaces the crop by ``scale`` and ``ratio``.
        hflip: Probability of a horizontal flip.
        color_jitter: Strength of random brightness, contrast and saturation; off if RandAugment is on.
        rand_augment_magnitude: RandAugment's magnitude in [0, 10]; ``None``: no RandAugment.
        rand_augment_std: Standard deviation of the magnitude, or ``"uniform"``: uniform from 0 to the magnitude.
        rand_augment_num_ops: Number of operations per image, each applied with probability 0.5.
        rand_augment_increasing: Whether every operation gets stronger with the magnitude.
        erasing: Probability that a random rectangle is replaced by noise.
        interpolation: Resampling filter; ``"random"`` draws bilinear or bicubic for each image.
        repeats: How often an image is drawn in a row, each time with new augmentation; the length of an epoch does not
            change.

    Raises:
        UserError: If a value is out of its range.
    """

    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad_crop: int = 0
    hflip: float = 0.5
    color_jitter: float = 0.4
    rand_augment_magnitude: float | None = 9.0
    rand_augment_std: float | Literal["uniform"] = 0.5
    rand_augment_num_ops: int = 2
    rand_augment_increasing: bool = True
    erasing: float = 0.25
    interpolation: Literal["random", "bicubic", "bilinear"] = "random"
    repeats: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choices(self, "data.augmentation")
        scale, magnitude = self.scale, self.rand_augment_magnitude
        probability = "a probability from 0 to 1"
        rules = {
            "scale": (scale is None or 0 < scale[0] <= scale[1] <= 1, "0 < low <= high <= 1, or null"),
            "ratio": (0 < self.ratio[0] <= self.ratio[1], "0 < low <= high"),
            "pad_crop": (self.pad_crop >= 0, "0 pixels or more"),
            "hflip": (0 <= self.hflip <= 1, probability),
            "color_jitter": (self.color_jitter >= 0, "0 or more"),
            "rand_augment_magnitude": (magnitude is None or 0 <= magnitude <= 10, "from 0 to 10, or null"),
            "rand_augment_std": (_is_spread(self.rand_augment_std), "0 or more, or uniform"),
            "rand_augment_num_ops": (self.rand_augment_num_ops >= 1, "1 or more"),
            "erasing": (0 <= self.erasing <= 1, probability),
            "repeats": (self.repeats >= 1, "1 or more"),
        }
        for name, (valid, expected) in rules.items():
            check(f"augmentation.{name}", getattr(self, name), valid, expected)


def _is_spread(value: float | str) -> bool:
    return value == "uniform" if isinstance(value, str) else 0 <= value < math.inf


LEVELS: dict[Level, Augmentation] = {
    "none": Augmentation(
        scale=None, hflip=0, color_jitter=0, rand_augment_magnitude=None, erasing=0, interpolation="bicubic"
    ),
    "light": Augmentation(scale=(0.5, 1), color_jitter=0, rand_augment_magnitude=None, erasing=0),
    "medium": Augmentation(scale=(0.25, 1), rand_augment_magnitude=5, erasing=0.1),
    "strong": Augmentation(),
}
