"""Label images in Python, with a trained checkpoint or with published weights."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.transforms.pipeline import eval_transform, reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.registry import is_model
from inceptionnext_lit.predict.device import choose_device, on_device
from inceptionnext_lit.predict.images import ImageLike, as_picture, batches, image_name
from inceptionnext_lit.predict.prediction import Prediction, as_predictions
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.predictions import rank
from inceptionnext_lit.tasks.loading import is_checkpoint, load_published, load_task

_ALIKE = 0.8  # of a misspelled model name


class Classifier:
    """A trained classifier; thread-safe.

    Args:
        task: The trained task, which the classifier takes over; its averaged weights are used if there are any.
        device: Device to run on; by default the GPU if there is one.
        compiles: Whether to compile the model.
        max_pixels: Maximum number of pixels of an image.

    Attributes:
        class_names: The classes in the order of the model's outputs.
        preprocessing: How images are resized, cropped and normalized.
        multi_label: Whether an image may have several labels.
        device: Device to run on.
        task: The task, for heat maps.

    Raises:
        UserError: If the task has no preprocessing, or the device cannot be used.
    """

    def __init__(
        self,
        task: ClassificationTask,
        device: str | torch.device | None = None,
        compiles: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if task.preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
        self.class_names: list[str] = list(task.class_names)
        self.preprocessing: Preprocessing = task.preprocessing.copy()
        self.preprocessing.pop("exif", None)  # as in the predict command
        self.multi_label: bool = task.data_spec.multi_label
        self.device = choose_device(device)
        self._max_pixels = max_pixels
        self._load = reader(self.preprocessing, max_pixels)
        self._transform = eval_transform(self.preprocessing)
        self._to_input = ToInput(self.preprocessing)
        task.model, task.model_ema = deploy(task.inference_model), None  # the other weights are not needed
        self.task = on_device(task.eval().requires_grad_(False), self.device)
        if compiles:
            self.task.predictor = Compiled(self.task.model)

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = 32) -> list[Prediction]:
        """Label images like the ``predict`` command.

        Args:
            images: One or several images: paths, PIL images, uint8 arrays of shape (H, W), (H, W, 3) as RGB or (H, W,
                4) as RGBA, or uint8 tensors of shape (3, H, W). A model with C other channels takes files with C
                channels, arrays (H, W, C) and tensors (C, H, W). Only one batch is held in memory at a time.
            batch_size: Images per batch.

        Returns:
            One prediction per image, in their order.

        Raises:
            UserError: If a file cannot be read, a PIL image has pixel values without a defined brightness, or the
                model's outputs for an image are NaN or infinite.
            TypeError: If something is not an image of these types.
            ValueError: If an array has another shape, or the batch size is below 1.
        """
        predictions: list[Prediction] = []
        for batch in batches(images, batch_size):
            predictions += self._label(batch, before=len(predictions))
        return predictions

    def _picture(self, image: ImageLike) -> Image.Image | Tensor:
        if isinstance(image, (str, Path)):
            return self._load(str(image))
        picture = as_picture(image, self.preprocessing, self._max_pixels)
        return torch.from_numpy(picture) if isinstance(picture, np.ndarray) else picture

    def _label(self, images: list[ImageLike], before: int) -> list[Prediction]:
        pixels = stack_pixels([self._transform(self._picture(image)) for image in images])
        with torch.inference_mode():
            scores = self.task.scores(self.task(self._to_input(pixels.to(self.device))))
        thresholds = self.task.calibration.thresholds
        predictions = rank(scores, paths=[], multi_label=self.multi_label, thresholds=thresholds)
        names = [image_name(image, before + place) for place, image in enumerate(images)]
        return as_predictions(predictions, self.class_names, names)


def load_trained(
    path: str | Path,
    device: str | torch.device | None = None,
    compiles: bool = False,
    max_pixels: int = MAX_PIXELS,
    pretrained: bool | str | Path | None = None,
    class_names: Sequence[str] | None = None,
) -> Classifier:
    """Load a checkpoint or published weights; see :func:`inceptionnext_lit.predict.loading.load_classifier`.

    Args:
        path: The checkpoint, or the name of a model.
        device: Device to run on.
        compiles: Whether to compile the model.
        max_pixels: Maximum number of pixels of an image.
        pretrained: For the name of a model: True, or a file of weights.
        class_names: The names of the outputs of weights that do not have them.

    Raises:
        UserError: If it cannot be loaded, or the device cannot be used.
    """
    chosen = choose_device(device)
    file = Path(path).expanduser()
    if pretrained is None and (file.exists() or not is_model(str(path))):
        if not file.exists() and (near := get_close_matches(str(path), timm.list_models(), n=3, cutoff=_ALIKE)):
            raise UserError(f"There is neither a file nor a model {str(path)!r}; did you mean {' or '.join(near)}?")
        if class_names is not None:
            raise UserError(f"{path} has the names of its classes; leave out class_names.")
        if file.exists() and not is_checkpoint(file):
            raise UserError(
                f"{path} is a file of weights, not a checkpoint of fit; give the name of its model as well: "
                f'load_classifier(NAME, pretrained="{path}").'
            )
        return Classifier(load_task(file)[0], chosen, compiles, max_pixels)
    if pretrained is False:
        raise UserError(f"Random weights label nothing; leave out pretrained=False to load {path}'s published weights.")
    if file.is_file():
        raise UserError(
            f"{path} is a file; give the name of the model as well, load_classifier(NAME, pretrained=FILE)."
        )
    weights = True if pretrained in (None, True) else str(pretrained)
    return Classifier(load_published(str(path), weights, class_names, names_needed=True), chosen, compiles, max_pixels)
