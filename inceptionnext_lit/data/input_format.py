"""The preprocessing of a model's input, from the user's options."""

from dataclasses import dataclass

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.preprocessing import CropMode, Exif, Interpolation, Preprocessing


@dataclass(frozen=True)
class InputOptions:
    """How evaluation preprocesses an image, and how all images are normalized.

    Attributes:
        mean: Mean per channel for pixels in [0, 1]; ``None``: that of the pretrained weights if there are any,
            otherwise ImageNet's, averaged if not RGB.
        std: Standard deviation per channel; ``None`` as for ``mean``.
        crop_pct: Fraction of the resized image's side that the evaluation's center crop keeps; ``None``: that of the
            pretrained weights, otherwise 0.875.
        interpolation: The evaluation's resampling filter; ``None``: that of the pretrained weights, otherwise bicubic.
        crop_mode: How the evaluation treats images that are not square: resize the shorter side and crop the rest
            (``center``), resize both sides (``squash``), or pad with the mean (``border``); ``None``: that of the
            pretrained weights, otherwise ``center``.
        nodata: The value of pixels without data, as stored in the files; these pixels become 0 after normalization.
            NaN is written ``.nan``. ``None``: the value of a TIFF file's GDAL tag, if any.
        exif: Whether to apply the EXIF orientation, so that images are upright. The authors' loaders ignore it on
            ImageNet. Prediction applies it unless told otherwise, regardless of the training.
    """

    mean: list[float] | None = None
    std: list[float] | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    crop_mode: CropMode | None = None
    nodata: float | None = None
    exif: Exif = "apply"

    def __post_init__(self) -> None:
        check_choices(self, "data.input")

    @property
    def has_statistics(self) -> bool:
        """Whether the mean or the standard deviation was given."""
        return self.mean is not None or self.std is not None


def input_format(image_size: int | list[int], in_chans: int, options: InputOptions = InputOptions()) -> Preprocessing:
    """Return the evaluation transform as plain data, from the options of the data module.

    Args:
        image_size: Side of the model's input images, in pixels, or their height and width.
        in_chans: Number of channels.
        options: Other options; ``None`` values become ImageNet's mean and standard deviation, bicubic, and a center
            crop of 0.875.

    Raises:
        UserError: If a value is out of its range.
    """
    sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    check("image_size", image_size, len(sides) == 2 and min(sides) >= 1, "1 pixel or more, or a height and a width")
    check("in_chans", in_chans, in_chans >= 1, "1 channel or more")
    crop_pct = 0.875 if options.crop_pct is None else options.crop_pct
    check("input.crop_pct", crop_pct, 0 < crop_pct <= 1, "above 0 and at most 1")
    mean = _per_channel(IMAGENET_DEFAULT_MEAN, in_chans) if options.mean is None else options.mean
    std = _per_channel(IMAGENET_DEFAULT_STD, in_chans) if options.std is None else options.std
    check("input.mean", mean, len(mean) == in_chans, f"{in_chans} numbers, one per channel")
    check("input.std", std, len(std) == in_chans and min(std) > 0, f"{in_chans} numbers above 0, one per channel")
    preprocessing = Preprocessing(
        image_size=sides[0] if sides[0] == sides[1] else sides,
        crop_pct=crop_pct,
        interpolation=options.interpolation or "bicubic",
        mean=mean,
        std=std,
        crop_mode=options.crop_mode or "center",
    )
    if options.nodata is not None:
        preprocessing["nodata"] = options.nodata
    if options.exif == "ignore":
        preprocessing["exif"] = options.exif
    return preprocessing


def _per_channel(of_rgb: tuple[float, ...], channels: int) -> list[float]:
    return list(of_rgb) if channels == 3 else [round(sum(of_rgb) / len(of_rgb), 4)] * channels
