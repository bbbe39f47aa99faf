"""How an image becomes a model's input: what the data and the model must agree on."""

from typing import Final, Literal, NotRequired, TypedDict

NOT_COUNTED: Final = -1
"""The label of an image that only fills up a process's share of an evaluation; no metric counts it."""

Interpolation = Literal["bicubic", "bilinear"]
Exif = Literal["apply", "ignore"]
CropMode = Literal["center", "squash", "border"]


class Preprocessing(TypedDict):
    """The evaluation transform as plain data, so that a checkpoint can carry it.

    Attributes:
        image_size: Side of the square that the model gets, in pixels.
        crop_pct: Share of the resized image's side that the centre crop keeps.
        interpolation: Resampling filter of the resize, ``"bicubic"`` or ``"bilinear"``.
        mean: Mean per channel that is subtracted, for pixels in [0, 1].
        std: Standard deviation per channel that is divided by.
        crop_mode: What becomes of an image that is no square: ``"center"`` resizes its shorter side and cuts the longer
            one, ``"squash"`` resizes both, and ``"border"`` resizes the longer side and fills up with the mean. Without
            it: ``"center"``.
        nodata: The value of pixels without data, which become 0; absent where it was not given.
        exif: Whether EXIF's orientation is applied; without it: ``"apply"``.
    """

    image_size: int
    crop_pct: float
    interpolation: Interpolation
    mean: list[float]
    std: list[float]
    crop_mode: NotRequired[CropMode]
    nodata: NotRequired[float]
    exif: NotRequired[Exif]
