"""Check the configured mean and standard deviation against the first training images."""

import warnings

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from inceptionnext_lit.preprocessing import Preprocessing, are_of_bytes

_ENOUGH = 256  # images
_FAR = 3.0  # standard deviations between the two means
_SPREAD = 10.0  # ratio of the two standard deviations, either way
_PLAIN = 0.01  # below this standard deviation, images are too uniform to compare
_STEP = 4  # stride of the sampled pixels


class SeenPixels:
    """Compare the first training images with ``data.input.mean`` and ``std``, and warn once if they are far apart.

    Args:
        preprocessing: Contains both, for pixels in [0, 1].
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._mean = preprocessing["mean"]
        self._std = preprocessing["std"]
        self._seen: list[Tensor] = []
        self._images = 0
        self._judged = False
        if are_of_bytes(self._mean, self._std):
            self._judged = True
            _warn(
                f"data.input.mean is {self._mean} and data.input.std is {self._std}, but pixels are 0 to 1; divide "
                "them by 255."
            )

    def note(self, pixels: Tensor) -> None:
        """Add a batch; the comparison is made after 256 images.

        Args:
            pixels: Shape (N, C, S, S), uint8 or float32, on the CPU.
        """
        if self._judged:
            return
        sparse = pixels[:, :, ::_STEP, ::_STEP].transpose(0, 1).flatten(1)  # (N, C, S, S) -> (C, pixels)
        scaled = sparse.double() / 255 if pixels.dtype == torch.uint8 else sparse.double()
        self._seen.append(torch.stack([scaled.mean(1), scaled.square().mean(1)]) * len(pixels))
        self._images += len(pixels)
        if self._images >= _ENOUGH:
            self._judge()

    def _judge(self) -> None:
        self._judged = True
        mean, square = torch.stack(self._seen).sum(0) / self._images  # (2, C)
        std = (square - mean.square()).clamp(min=0).sqrt()
        given_mean, given_std = torch.tensor(self._mean).double(), torch.tensor(self._std).double()
        is_far = ((mean - given_mean).abs() / given_std > _FAR) | (std > _SPREAD * given_std)
        is_far |= (std > _PLAIN) & (std < given_std / _SPREAD)
        if is_far.any():
            _warn(
                f"The first {self._images} training images have a mean of {_rounded(mean)} and a standard deviation of "
                f"{_rounded(std)} per channel, but data.input.mean is {self._mean} and data.input.std is {self._std}; "
                "set them to those of the images, unless pretrained weights require the given ones."
            )


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


@rank_zero_only
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
