"""How an image becomes a model's input, shared by the data and the model."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict, get_args

from inceptionnext_lit.choices import check_choice
from inceptionnext_lit.errors import UserError

NOT_COUNTED: Final = -1
"""Label of an image that pads a rank's share of an evaluation set; metrics ignore it."""

IGNORED: Final = 255
"""The value of a mask's pixels without a class, which losses and metrics ignore (``ignore_index``)."""

Size = tuple[int, int]
"""Height and width, in pixels."""

Interpolation = Literal["bicubic", "bilinear"]
Exif = Literal["apply", "ignore"]
CropMode = Literal["center", "squash", "border"]


class Preprocessing(TypedDict):
    """The evaluation transform as plain data, so that a checkpoint can carry it.

    Attributes:
        image_size: Side of the square model input in pixels, or its height and width.
        crop_pct: Fraction of the resized image's side that the center crop keeps.
        interpolation: Resampling filter of the resize, ``"bicubic"`` or ``"bilinear"``.
        mean: Mean to subtract per channel, for pixels in [0, 1].
        std: Standard deviation to divide by per channel.
        crop_mode: How to fit an image that is not square: ``"center"`` (default) resizes the shorter side and crops the
            longer one, ``"squash"`` resizes both, ``"border"`` resizes the longer side and pads with the mean.
        nodata: Value of pixels without data, which become 0; absent if there is none.
        exif: Whether to apply the EXIF orientation; ``"apply"`` by default.
        scale: For segmentation, the longer and the shorter side in pixels that an evaluated image is resized to fit,
            with its ratio kept; absent if images keep their size. ``image_size`` is then the size of training crops.
    """

    image_size: int | list[int]
    crop_pct: float
    interpolation: Interpolation
    mean: list[float]
    std: list[float]
    crop_mode: NotRequired[CropMode]
    nodata: NotRequired[float]
    exif: NotRequired[Exif]
    scale: NotRequired[list[int]]


def check_preprocessing(given: Mapping[str, Any]) -> None:
    """Refuse a preprocessing that cannot be applied.

    Raises:
        UserError: If keys are missing or unknown, or a value is out of its range.
    """
    required = sorted(Preprocessing.__required_keys__)
    if missing := [key for key in required if key not in given]:
        raise UserError(f"The preprocessing has no {' and no '.join(missing)}; it needs {', '.join(required)}.")
    known = sorted(Preprocessing.__annotations__)
    if unknown := [key for key in given if key not in known]:
        raise UserError(f"The preprocessing has {', '.join(unknown)}, which is none of {', '.join(known)}.")
    for key, choices in (("interpolation", Interpolation), ("crop_mode", CropMode), ("exif", Exif)):
        check_choice(f"The preprocessing's {key}", given.get(key), get_args(choices))
    mean, std = given["mean"], given["std"]
    if not 0 < given["crop_pct"] <= 1:
        raise UserError(f"The preprocessing's crop_pct is {given['crop_pct']}; it must be above 0 and at most 1.")
    if not len(mean) == len(std) > 0 or min(std) <= 0:
        raise UserError(
            f"The preprocessing's std is {std}; it must be one number above 0 per channel, as many as means."
        )


def are_of_bytes(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Return whether statistics of three channels are those of pixels from 0 to 255, and not from 0 to 1 as here."""
    return len(mean) == 3 and max(*mean, *std) > 1


def height_and_width(preprocessing: Preprocessing) -> Size:
    """Return the height and width of the model input in pixels."""
    size = preprocessing["image_size"]
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def size_text(preprocessing: Preprocessing) -> str:
    """Return the input size for messages: ``224`` for a square, otherwise ``224×320``."""
    height, width = height_and_width(preprocessing)
    return str(height) if height == width else f"{height}×{width}"


def in_pixels(size: Size) -> str:
    """Return a size for messages: ``160 px`` for a square, otherwise ``160 × 320 px``."""
    height, width = size
    return f"{height} px" if height == width else f"{height} × {width} px"
