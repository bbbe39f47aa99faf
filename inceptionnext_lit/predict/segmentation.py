"""What a segmentation model says about an image. This module does not import torch."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.scenes.pictures import mask_picture, write_mask
from inceptionnext_lit.predictions import MaskPredictions
from inceptionnext_lit.wording import listed


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A model's prediction for one image.

    Attributes:
        mask: Class index of each pixel, uint8 of shape (H, W), the image's own size.
        confidence: Mean over the pixels of the probability of the predicted class, in [0, 1].
        class_names: The classes in the order of the indices.
        palette: Color of each class.
    """

    mask: NDArray[np.uint8]
    confidence: float
    class_names: Sequence[str]
    palette: Sequence[Sequence[int]]

    @property
    def areas(self) -> Mapping[str, float]:
        """Share of the pixels that each class has."""
        shares = np.bincount(self.mask.ravel(), minlength=len(self.class_names)) / self.mask.size
        return dict(zip(self.class_names, shares.tolist(), strict=True))

    @property
    def colored(self) -> Image.Image:
        """The mask in the classes' colors, as an RGB picture."""
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[: len(self.palette)] = self.palette
        return Image.fromarray(colors[self.mask])

    def png(self) -> bytes:
        """Return the mask as the content of a PNG file with a palette, whose values are class indices."""
        content = io.BytesIO()
        mask_picture(self.mask, self.palette).save(content, "PNG")
        return content.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the mask as a PNG file with a palette, whose values are class indices.

        Args:
            path: The file.

        Raises:
            UserError: If it cannot be written, or its name does not end in ``.png``.
        """
        if Path(path).suffix.lower() != ".png":
            raise UserError(f"{path} does not end in .png; other formats would change the values of a mask.")
        write_mask(Path(path), self.mask, self.palette)


def as_segmentations(
    predictions: MaskPredictions,
    class_names: Sequence[str],
    palette: Sequence[Sequence[int]],
    names: Sequence[str],
) -> list[Segmentation]:
    """Return the predictions of a batch, one for each image.

    Args:
        predictions: The masks.
        class_names: The classes in the order of the indices.
        palette: Color of each class.
        names: Names of the images, for messages.

    Raises:
        UserError: If an image has no mask, or the model's outputs for it are NaN or infinite.
    """
    if predictions.reasons:
        raise UserError(f"{names[0]}: {next(iter(predictions.reasons.values()))}")
    finite = np.isfinite(predictions.confidences).tolist()
    if lost := [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]:
        raise UserError(
            f"The model's outputs are NaN or infinite for {listed(lost)}. Check the pixel values, or use an "
            "earlier checkpoint."
        )
    of_images = zip(predictions.masks, predictions.confidences, strict=True)
    return [Segmentation(mask, confidence, class_names, palette) for mask, confidence in of_images]
