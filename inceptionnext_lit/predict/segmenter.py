"""Segment images in Python with a trained checkpoint."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data.scenes import SceneInput
from inceptionnext_lit.data.transforms.resampling import size_of
from inceptionnext_lit.data.transforms.segmentation import TestScale
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.predict.device import choose_device, on_device
from inceptionnext_lit.predict.images import ImageLike, as_picture, batches, image_name
from inceptionnext_lit.predict.segmentation import Segmentation, as_segmentations
from inceptionnext_lit.preprocessing import Preprocessing, Size
from inceptionnext_lit.tasks import SegmentationTask


class TrainedSegmenter:
    """A trained segmentation model; thread-safe.

    Args:
        task: The trained task, which the segmenter takes over; its averaged weights are used if there are any.
        device: Device to run on; by default the GPU if there is one.
        max_pixels: Maximum number of pixels of an image.

    Attributes:
        class_names: The classes in the order of the indices.
        palette: Color of each class.
        preprocessing: How images are resized and normalized.
        device: Device to run on.
        task: The task.

    Raises:
        UserError: If the task has no preprocessing, or the device cannot be used.
    """

    def __init__(
        self, task: SegmentationTask, device: str | torch.device | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        if task.preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
        self.class_names: list[str] = list(task.class_names)
        self.palette: list[list[int]] = task.data_spec.palette or colormap(task.num_classes)
        self.preprocessing: Preprocessing = task.preprocessing.copy()
        self.device = choose_device(device)
        self._max_pixels = max_pixels
        self._scale = TestScale(self.preprocessing, max_pixels)
        self._scale.keeps_size = task.inference.takes_originals
        self._to_input = SceneInput(self.preprocessing)
        task.model, task.model_ema = deploy(task.inference_model), None  # the other weights are not needed
        self.task = on_device(task.eval().requires_grad_(False), self.device)

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[Segmentation]:
        """Segment images like the ``predict`` command.

        Args:
            images: One or several images: paths, PIL images, uint8 arrays of shape (H, W), (H, W, 3) as RGB or (H, W,
                4) as RGBA, or uint8 tensors of shape (3, H, W). A model with C other channels takes files with C
                channels, arrays (H, W, C) and tensors (C, H, W). Only one image is computed at a time.

        Returns:
            One segmentation per image, in their order.

        Raises:
            UserError: If a file cannot be read, a PIL image has pixel values without a defined brightness, or the
                model's outputs for an image are NaN or infinite.
            TypeError: If something is not an image of these types.
            ValueError: If an array has another shape.
        """
        found: list[Segmentation] = []
        for [image] in batches(images, 1):
            pixels, size = self._pixels(image)
            with torch.inference_mode():
                predictions = self.task.segment([self._to_input(pixels.to(self.device))], [size], [""])
            found += as_segmentations(predictions, self.class_names, self.palette, [image_name(image, len(found))])
        return found

    def probabilities(self, image: ImageLike) -> np.ndarray:
        """Return the probability of each class at each pixel of an image.

        Args:
            image: The image, as for :meth:`predict`.

        Returns:
            Float32 of shape (K, H, W).

        Raises:
            UserError: As for :meth:`predict`.
        """
        pixels, size = self._pixels(image)
        model = self.task.laid_out(self.task.model)
        with torch.inference_mode():
            scores = self.task.inference.probabilities(model, self._to_input(pixels.to(self.device)), size)
        found: np.ndarray = scores.float().cpu().numpy()
        return found

    def _pixels(self, image: ImageLike) -> tuple[Tensor, Size]:
        if isinstance(image, (str, Path)):
            return self._scale.read(str(image))
        picture = as_picture(image, self.preprocessing, self._max_pixels)
        ready: Image.Image | Tensor = torch.from_numpy(picture) if isinstance(picture, np.ndarray) else picture
        return self._scale.resize(ready), size_of(ready)
