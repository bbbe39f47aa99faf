"""A trained checkpoint as a function in Python: images in, labels out."""

import inspect
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentError
from lightning.pytorch.cli import instantiate_module
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.loading import load_image, upright_rgb
from inceptionnext_lit.data.transforms import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.predictions import rank, top_labels
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
_SINGLE = (str, Path, Image.Image, np.ndarray, Tensor)
_KINDS = (
    "a path, a PIL image, a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4), or a uint8 tensor of shape (3, H, W)"
)
# Pillow reads a file and its metadata when an image is first used, which two threads must not do at once
_pillow = threading.Lock()


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        label: The most probable class.
        probability: Its probability, in [0, 1].
        top5: The five most probable classes (all of them, if there are fewer) with theirs, best first.
    """

    label: str
    probability: float
    top5: dict[str, float]


class Classifier:
    """A trained classifier, ready to use; several threads may use one at once.

    Args:
        task: The trained task, which is the classifier's from now on; its averaged weights are used if there are any.
        device: Where it runs.

    Attributes:
        class_names: The classes in the order of the model's outputs.
        preprocessing: How images are resized, cropped and normalised.
        device: Where it runs.

    Raises:
        UserError: If the task does not know its preprocessing, or the device cannot be used.
    """

    def __init__(self, task: ClassificationTask, device: torch.device) -> None:
        if task.preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one that fit wrote.")
        self.class_names: list[str] = list(task.class_names)
        self.preprocessing: Preprocessing = task.preprocessing
        self.device = device
        self._transform = eval_transform(task.preprocessing)
        task.model, task.model_ema = task.inference_model, None  # the other weights are not needed again
        try:
            self._task = task.eval().requires_grad_(False).to(device)
        except (AssertionError, RuntimeError) as error:  # torch's word for a device that is not there
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(f"The device {str(device)!r} cannot be used here: {reason}.") from error

    def predict(self, images: ImageLike | Iterable[ImageLike], batch_size: int = 32) -> list[Prediction]:
        """Label images as the command ``predict`` does.

        Args:
            images: One image or several: paths, PIL images, uint8 arrays of shape (H, W), (H, W, 3) as RGB or (H, W, 4)
                as RGBA, or uint8 tensors of shape (3, H, W). Only a batch of them is held at a time.
            batch_size: Images that the model gets at once.

        Returns:
            A prediction per image, in their order.

        Raises:
            UserError: If a file cannot be read, or a PIL image has pixel values of no defined brightness.
            TypeError: If something is none of these kinds of images.
            ValueError: If an array has another shape, or the batch size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 image or more.")
        if not isinstance(images, (*_SINGLE, Iterable)):
            raise TypeError(f"An image is {_KINDS}, not {_described(images)}.")
        remaining = iter([images] if isinstance(images, _SINGLE) else images)
        return [prediction for batch in _batches(remaining, batch_size) for prediction in self._label(batch)]

    def _label(self, images: list[ImageLike]) -> Iterator[Prediction]:
        batch = torch.stack([self._transform(_as_rgb(image)) for image in images])  # (N, 3, S, S)
        with torch.inference_mode():
            predictions = rank(self._task.scores(self._task(batch.to(self.device))), paths=[])
        for top5 in top_labels(predictions, self.class_names):
            label, probability = next(iter(top5.items()))
            yield Prediction(label, probability, top5)


def load_classifier(path: str | Path, device: str | torch.device | None = None) -> Classifier:
    """Load a checkpoint of ``fit`` to label images with.

    Nothing in the file is run, and the optimiser's part of it is not read.

    Args:
        path: The checkpoint, such as ``best.ckpt``.
        device: Where to run, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one, else the CPU.

    Raises:
        UserError: If the file is no checkpoint of ``fit``, or the device cannot be used.
    """
    path = Path(path).expanduser()
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"There is no device {device!r}; give 'cpu', or 'cuda' for a GPU.") from error
    return Classifier(_load_task(path), chosen)


def _load_task(path: Path) -> ClassificationTask:
    content = read_checkpoint(path, mmap=True)
    arguments = content.get("hyper_parameters")
    kind = f"{ClassificationTask.__module__}.{ClassificationTask.__qualname__}"
    if not isinstance(arguments, dict) or arguments.get("_class_path") != kind:
        raise UserError(f"{path} is no checkpoint of a classifier that fit has trained; use one of those.")
    known = inspect.signature(ClassificationTask).parameters
    plain = {key: value for key, value in arguments.items() if key in known or key == "_class_path"}
    try:
        task: ClassificationTask = instantiate_module(ClassificationTask, plain)
        task.load_state_dict(content["state_dict"])
    except (ArgumentError, RuntimeError) as error:  # arguments of another version, tensors of another model
        raise UserError(f"The weights and the arguments in {path} do not fit each other, or this version.") from error
    return task


def _batches(images: Iterator[ImageLike], size: int) -> Iterator[list[ImageLike]]:
    while batch := list(islice(images, size)):
        yield batch


def _as_rgb(image: ImageLike) -> Image.Image:
    if isinstance(image, (str, Path)):
        return load_image(image)
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8:
            raise TypeError(f"A tensor of {image.dtype} was given; the pixels of an image are uint8, 0 to 255.")
        if image.ndim != 3 or len(image) != 3 or image.numel() == 0:
            raise ValueError(f"A tensor of shape {tuple(image.shape)} was given; one image has the shape (3, H, W).")
        image = image.permute(1, 2, 0).cpu().numpy()  # (3, H, W) -> (H, W, 3)
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"An image is {_KINDS}, not {_described(image)}.")
    try:
        with _pillow:
            return upright_rgb(image)
    except (OSError, ValueError) as error:
        raise UserError(f"The PIL image {_described(image)} cannot be used: {error}.") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise TypeError(f"An array of {array.dtype} was given; the pixels of an image are uint8, 0 to 255.")
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(
            f"An array of shape {array.shape} was given; one image has the shape (H, W), (H, W, 3) or (H, W, 4)."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _described(value: object) -> str:
    if isinstance(value, Image.Image):
        return f"of mode {value.mode} and size {value.size}"
    return f"a {type(value).__name__}"
