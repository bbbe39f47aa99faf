"""What a model's input looks like, from the options that a user gives."""

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from inceptionnext_lit.data.checks import check
from inceptionnext_lit.preprocessing import CropMode, Interpolation, Preprocessing


def input_format(
    image_size: int,
    in_chans: int,
    *,
    crop_pct: float | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    interpolation: Interpolation | None = None,
    crop_mode: CropMode | None = None,
) -> Preprocessing:
    """The evaluation transform as plain data, from the keys of the data module.

    Args:
        image_size: Side of the images that the model gets, in pixels.
        in_chans: Their channels.
        crop_pct: Share of the resized image's side that the centre crop keeps; None for 0.875.
        mean: Mean per channel; None for ImageNet's, averaged where the images are not RGB.
        std: Standard deviation per channel; None for ImageNet's, likewise.
        interpolation: Filter of the resize; None for bicubic.
        crop_mode: What becomes of an image that is no square; None for its centre.

    Raises:
        UserError: If a value is out of its range.
    """
    check("image_size", image_size, image_size >= 1, "1 pixel or more")
    check("in_chans", in_chans, in_chans >= 1, "1 channel or more")
    crop_pct = 0.875 if crop_pct is None else crop_pct
    check("crop_pct", crop_pct, 0 < crop_pct <= 1, "above 0 and at most 1")
    mean = _per_channel(IMAGENET_DEFAULT_MEAN, in_chans) if mean is None else mean
    std = _per_channel(IMAGENET_DEFAULT_STD, in_chans) if std is None else std
    check("mean", mean, len(mean) == in_chans, f"{in_chans} numbers, one per channel")
    check("std", std, len(std) == in_chans and min(std) > 0, f"{in_chans} numbers above 0, one per channel")
    return Preprocessing(
        image_size=image_size,
        crop_pct=crop_pct,
        interpolation=interpolation or "bicubic",
        mean=mean,
        std=std,
        crop_mode=crop_mode or "center",
    )


def _per_channel(of_rgb: tuple[float, ...], channels: int) -> list[float]:
    return list(of_rgb) if channels == 3 else [round(sum(of_rgb) / len(of_rgb), 4)] * channels
