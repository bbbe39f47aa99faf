"""timm's random crop, for pictures and for JPEG files, of which only the needed part is decoded."""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop
from torchvision.transforms.v2 import functional as joint
from torchvision.tv_tensors import TVTensor

from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.decode.jpeg import Jpeg, open_jpeg

Picture = Image.Image | Tensor
"""An image returned by :func:`load_image`."""
Reader = Callable[[str], Picture]
FastReader = Callable[[str], Jpeg | None]


class _Drawn(NamedTuple):
    """A crop of an upright picture, in pixels, and the resampling filter."""

    top: int
    left: int
    height: int
    width: int
    interpolation: InterpolationMode


class RandomCrop:
    """Crop a part of random size and aspect ratio, and resize it with a fixed or random filter.

    Pictures are resized by Pillow, exactly as in timm; JPEG files by torch, whose uint8 kernels are several times as
    fast and differ by one or two levels of 255 in some pixels.

    Args:
        size: Height H and width W of the result in pixels.
        scale: Range of the crop's area, as a fraction of the image.
        ratio: Range of its width divided by its height.
        interpolation: ``"bilinear"``, ``"bicubic"``, or ``"random"`` to draw one of them for each image.
    """

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], interpolation: str
    ) -> None:
        self._size = size
        self._scale = scale
        self._ratio = ratio
        names = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
        self._filters = [InterpolationMode(name) for name in names]

    def __call__(self, picture: Picture, *targets: TVTensor) -> tuple[Picture, ...]:
        """Crop and resize a picture, with its masks and boxes.

        Args:
            picture: The picture.
            *targets: torchvision's ``Mask`` and ``BoundingBoxes`` of the same height and width.
        """
        size = picture.size if isinstance(picture, Image.Image) else (picture.shape[-1], picture.shape[-2])
        drawn = self._draw(*size, is_tensor=isinstance(picture, Tensor))
        return self._crop(picture, drawn), *self._crop_targets(targets, drawn)

    def read(
        self, path: str, *targets: TVTensor, load: Reader = load_image, open_fast: FastReader = open_jpeg
    ) -> tuple[Picture, ...]:
        """Crop and resize an image file, with the same draws as for its picture.

        Args:
            path: The file.
            *targets: As for a picture.
            load: Reads the file.
            open_fast: Opens the file if it is a JPEG.

        Raises:
            UserError: If it cannot be read.
        """
        jpeg = open_fast(path)
        if jpeg is None:
            return self(load(path), *targets)
        drawn = self._draw(*jpeg.size)
        cropped = self._crop_targets(targets, drawn)
        pixels = jpeg.crop(*drawn[:4], at_least=max(self._size))
        if pixels is None:
            return self._crop(load(path), drawn), *cropped
        batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # (H, W, 3) -> (1, 3, H, W), channels last
        mode = drawn.interpolation.value
        return torch.nn.functional.interpolate(batch, self._size, mode=mode, antialias=True)[0], *cropped

    def _draw(self, width: int, height: int, *, is_tensor: bool = False) -> _Drawn:
        nothing = torch.empty((1, height, width), device="meta")  # timm only needs the image's size
        top, left, rows, columns = RandomResizedCropAndInterpolation.get_params(nothing, self._scale, self._ratio)
        if is_tensor:
            return _Drawn(top, left, rows, columns, InterpolationMode.BICUBIC)
        interpolation = random.choice(self._filters) if len(self._filters) > 1 else self._filters[0]
        return _Drawn(top, left, rows, columns, interpolation)

    def _crop(self, picture: Picture, drawn: _Drawn) -> Picture:
        *box, interpolation = drawn
        cropped: Picture = resized_crop(picture, *box, list(self._size), interpolation)
        return cropped

    def _crop_targets(self, targets: tuple[TVTensor, ...], drawn: _Drawn) -> list[TVTensor]:
        return [joint.resized_crop(target, *drawn[:4], list(self._size)) for target in targets]
