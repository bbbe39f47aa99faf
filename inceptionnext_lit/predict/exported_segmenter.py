"""Segment images with an exported file, in Python. This module does not import torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.exported import Opened, open_exported
from inceptionnext_lit.predict.images import as_picture, batches, image_name
from inceptionnext_lit.predict.segmentation import Segmentation, as_segmentations
from inceptionnext_lit.predictions import MaskPredictions
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.wording import first_line

if TYPE_CHECKING:
    from inceptionnext_lit.predict.images import ImageLike


class ExportedSegmenter:
    """A segmentation model in a file that ``export`` has written; thread-safe, on the CPU.

    Args:
        path: The file, such as ``model.onnx``, which takes pixels of any size.
        max_pixels: Maximum number of pixels of an image.
        opened: The file, if it was opened already.

    Attributes:
        class_names: The classes in the order of the indices.
        palette: Color of each class.
        preprocessing: How images are resized and normalized, inside the file.
        metadata: What the file says about itself.

    Raises:
        UserError: If it is not such a file, is damaged, needs a package that is not installed, or takes other inputs.
    """

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS, opened: Opened | None = None) -> None:
        self._session, self.metadata = opened or open_exported(path)
        if self.metadata.task != "segmentation":
            raise UserError(f"{path} is a classifier; load it with load_classifier.")
        if self.metadata.takes != "pixels" or "size" not in self.metadata.dynamic:
            what = "normalized images" if self.metadata.takes != "pixels" else "images of one size"
            raise UserError(
                f"{path} takes {what} only; to segment pictures with it, export with --input pixels "
                "--dynamic batch,size."
            )
        self.class_names: list[str] = list(self.metadata.class_names)
        self.palette: list[list[int]] = self.metadata.palette or []
        self.preprocessing: Preprocessing = self.metadata.preprocessing.copy()
        self._max_pixels = max_pixels

    def predict(self, images: "ImageLike | Iterable[ImageLike]") -> list[Segmentation]:
        """Segment images; see :meth:`TrainedSegmenter.predict`.

        Args:
            images: One or several images: paths, PIL images, uint8 arrays or uint8 tensors.

        Returns:
            One segmentation per image, in their order.

        Raises:
            UserError: If a file cannot be read, or the model's outputs for an image are NaN or infinite.
            TypeError: If something is not an image.
            ValueError: If an array has another shape.
        """
        found: list[Segmentation] = []
        for [image] in batches(images, 1):
            name = image_name(image, len(found))
            predictions = self.segment([self.load(image)], [name])
            found += as_segmentations(predictions, self.class_names, self.palette, [name])
        return found

    def load(self, image: "ImageLike") -> Image.Image:
        """Return an image as an upright RGB picture.

        Args:
            image: A path, PIL image, array or tensor.

        Raises:
            UserError: If a file cannot be read.
        """
        mean, nodata = self.preprocessing["mean"], self.preprocessing.get("nodata")
        applies = self.preprocessing.get("exif") != "ignore"
        if isinstance(image, (str, Path)):
            picture: Any = load_image(image, len(mean), self._max_pixels, nodata, mean, apply_exif=applies)
        else:
            picture = as_picture(image, self.preprocessing, self._max_pixels)
        if not isinstance(picture, Image.Image):
            raise UserError(f"{image} does not have the three channels that the file takes.")
        return picture

    def segment(self, pictures: Sequence[Image.Image], paths: Sequence[str]) -> MaskPredictions:
        """Return the most probable class of each pixel.

        Args:
            pictures: The images as :meth:`load` returns them.
            paths: Their files.
        """
        masks: list[NDArray[np.uint8]] = []
        confidences = []
        reasons = {}
        for picture, path in zip(pictures, paths, strict=True):
            try:
                classes, best, _ = self.scores(picture)
            except UserError as error:
                reasons[path] = str(error)
                masks.append(np.zeros((picture.height, picture.width), np.uint8))
                confidences.append(float("nan"))
                continue
            masks.append(classes.astype(np.uint8))
            confidences.append(float(best.astype(np.float64).mean()))
        return MaskPredictions(list(paths), masks, confidences, reasons)

    def scores(self, picture: Image.Image) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the most probable class of each pixel, its probability, and those of all classes if the file has them.

        Args:
            picture: The image as :meth:`load` returns it.

        Returns:
            Shapes (H, W), (H, W) and (K, H, W).

        Raises:
            UserError: If the file cannot segment it, such as an image that is too small.
        """
        try:
            outputs = self._session.run(np.asarray(picture)[None])
        except Exception as error:  # runtimes have their own types
            raise UserError(
                f"The file cannot segment an image of {picture.height}×{picture.width} pixels, which may be too small "
                f"for the model: {first_line(error)}."
            ) from error
        if self.metadata.outputs == ["probabilities"]:
            scores = outputs[0][0]
            return scores.argmax(axis=0), scores.max(axis=0), scores
        return outputs[0][0], outputs[1][0], None
