"""Label images in Python, with a trained checkpoint or with published weights."""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageFile
from torch import Tensor

from inceptionnext_lit.data.class_words import joined_words
from inceptionnext_lit.data.decode.arrays import StoredArray, as_floats, channels_first
from inceptionnext_lit.data.decode.image import upright
from inceptionnext_lit.data.decode.opening import FORMATS, HEIF, MAX_PIXELS, check_size
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.transforms.pipeline import eval_transform, reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.fitting import listed
from inceptionnext_lit.models.variants import is_model
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.predictions import labels, rank, top_labels
from inceptionnext_lit.tasks.loading import load_published, load_task
from inceptionnext_lit.wording import first_line

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
_SINGLE = (str, Path, Image.Image, np.ndarray, Tensor)
_KINDS = "a path, a PIL image, a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4), or a uint8 tensor (3, H, W)"
_ALIKE = 0.8  # of a misspelled model name
# Pillow reads a file and its metadata on first use, which two threads must not do at once
_pillow = threading.Lock()


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        label: The most probable class; for a multi-label model, all classes whose probability reaches their threshold,
            one half unless the checkpoint has others, joined by ``|``.
        probability: Probability of the most probable class, in [0, 1].
        top5: The five most probable classes (or all, if there are fewer) with their probabilities, best first.
    """

    label: str
    probability: float
    top5: dict[str, float]

    @property
    def words(self) -> str | None:
        """The words of the label if it is a WordNet ID, such as ``tabby, tabby cat`` for ``n02123045``."""
        return joined_words(self.label)


class Classifier:
    """A trained classifier; thread-safe.

    Args:
        task: The trained task, which the classifier takes over; its averaged weights are used if there are any.
        device: Device to run on.
        compiles: Whether to compile the model.
        max_pixels: Maximum number of pixels of an image.

    Attributes:
        class_names: The classes in the order of the model's outputs.
        preprocessing: How images are resized, cropped and normalized.
        device: Device to run on.

    Raises:
        UserError: If the task has no preprocessing, or the device cannot be used.
    """

    def __init__(
        self, task: ClassificationTask, device: torch.device, compiles: bool = False, max_pixels: int = MAX_PIXELS
    ) -> None:
        if task.preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
        self.class_names: list[str] = list(task.class_names)
        self.preprocessing: Preprocessing = task.preprocessing.copy()
        self.preprocessing.pop("exif", None)  # as in the predict command
        self.device = device
        self._max_pixels = max_pixels
        self._load = reader(self.preprocessing, max_pixels)
        self._transform = eval_transform(self.preprocessing)
        self._to_input = ToInput(self.preprocessing)
        task.model, task.model_ema = deploy(task.inference_model), None  # the other weights are not needed
        try:
            self._task = task.eval().requires_grad_(False).to(device)
        except (AssertionError, RuntimeError) as error:  # raised by torch if there is no such device
            reason = first_line(error)
            raise UserError(f"The device {str(device)!r} cannot be used here: {reason}.") from error
        if compiles:
            self._task.predictor = Compiled(self._task.model)

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
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 image or more.")
        if not isinstance(images, (*_SINGLE, Iterable)):
            raise TypeError(f"An image is {_KINDS}, not {_described(images)}.")
        remaining = iter([images] if isinstance(images, _SINGLE) else images)
        predictions: list[Prediction] = []
        for batch in _batches(remaining, batch_size):
            predictions += self._label(batch, before=len(predictions))
        return predictions

    def _picture(self, image: ImageLike) -> Image.Image | Tensor:
        if isinstance(image, (str, Path)):
            return self._load(str(image))
        return _as_picture(image, self.preprocessing, self._max_pixels)

    def _label(self, images: list[ImageLike], before: int) -> Iterator[Prediction]:
        pixels = stack_pixels([self._transform(self._picture(image)) for image in images])
        with torch.inference_mode():
            scores = self._task.scores(self._task(self._to_input(pixels.to(self.device))))
        thresholds = self._task.calibration.thresholds
        multi_label = self._task.data_spec.multi_label
        predictions = rank(scores, paths=[], multi_label=multi_label, thresholds=thresholds)
        if lost := (~predictions["finite"]).nonzero()[:, 0].tolist():
            names = [_name(images[place], before + place) for place in lost]
            raise UserError(
                f"The model's outputs are NaN or infinite for {listed(names)}. Check the pixel values, or use an "
                "earlier checkpoint."
            )
        of_images = labels(predictions, self.class_names), top_labels(predictions, self.class_names)
        for label, top5 in zip(*of_images, strict=True):
            yield Prediction(label, next(iter(top5.values())), top5)


def load_classifier(
    path: str | Path,
    device: str | torch.device | None = None,
    compiles: bool = False,
    max_pixels: int = MAX_PIXELS,
    pretrained: bool | str | Path | None = None,
) -> Classifier:
    """Load a checkpoint of ``fit``, or a model with published weights, to label images.

    No code in a file is run, and a checkpoint's optimizer state is not read. The allocator's settings are not changed:
    a server on a CPU may call ``inceptionnext_lit.allocator.keep_memory()`` first, as the command line does.

    Args:
        path: The checkpoint, such as ``best.ckpt``; or the name of a model, such as ``inceptionnext_tiny`` or any other
            of timm's. Something that exists is not taken for a name.
        device: Device to run on, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one, else the CPU.
        compiles: Whether to compile the model for the first batch size that occurs twice; others run uncompiled. Takes
            ten seconds to minutes, and needs a C++ compiler.
        max_pixels: Maximum number of pixels of an image, like ``data.bad_images.max_pixels`` on the command line.
        pretrained: For the name of a model: True, the default, to download its published weights, or a file of weights.

    Raises:
        UserError: If the file is not a checkpoint of ``fit``, the model is unknown or has no such weights, weights are
            NaN or infinite, or the device cannot be used.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"Unknown device {device!r}; give 'cpu', or 'cuda' for a GPU.") from error
    file = Path(path).expanduser()
    if pretrained is None and (file.exists() or not is_model(str(path))):
        if not file.exists() and (near := get_close_matches(str(path), timm.list_models(), n=3, cutoff=_ALIKE)):
            raise UserError(f"There is neither a file nor a model {str(path)!r}; did you mean {' or '.join(near)}?")
        return Classifier(load_task(file)[0], chosen, compiles, max_pixels)
    if pretrained is False:
        raise UserError(f"Random weights label nothing; leave out pretrained=False to load {path}'s published weights.")
    if file.is_file():
        raise UserError(
            f"{path} is a file; give the name of the model as well, load_classifier(NAME, pretrained=FILE)."
        )
    weights = True if pretrained in (None, True) else str(pretrained)
    return Classifier(load_published(str(path), weights, names_needed=True), chosen, compiles, max_pixels)


def _batches(images: Iterator[ImageLike], size: int) -> Iterator[list[ImageLike]]:
    while batch := list(islice(images, size)):
        yield batch


def _name(image: ImageLike, place: int) -> str:
    return str(image) if isinstance(image, (str, Path)) else f"image {place + 1}"


def _as_picture(image: ImageLike, preprocessing: Preprocessing, max_pixels: int) -> Image.Image | Tensor:
    """Convert an image to what :func:`load_image` would return for its file."""
    mean, nodata = preprocessing["mean"], preprocessing.get("nodata")
    channels = len(mean)
    if isinstance(image, Tensor):
        _check_pixels("tensor", image.dtype, image.dtype == torch.uint8)
        if image.ndim != 3 or len(image) not in (3, channels) or image.numel() == 0:
            raise ValueError(f"A tensor of shape {tuple(image.shape)} was given; one image has the shape (3, H, W).")
        image = image.permute(1, 2, 0).cpu().numpy()  # (C, H, W) -> (H, W, C)
    if isinstance(image, np.ndarray):
        _check_pixels("array", image.dtype, image.dtype == np.uint8)
        if image.size and image.shape[2:] == (channels,) and channels not in (3, 4):
            return torch.from_numpy(as_floats(StoredArray(channels_first(image, channels)), nodata, mean))
        if image.size == 0 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(
                f"An array of shape {image.shape} was given; one image has the shape (H, W), (H, W, 3) or (H, W, 4)."
            )
        image = Image.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, Image.Image):
        raise TypeError(f"An image is {_KINDS}, not {_described(image)}.")
    try:
        if isinstance(image, ImageFile.ImageFile):  # it may not be decoded yet
            _check_format(image)
        check_size(image.size, max_pixels)
        with _pillow:
            return upright(image, channels, nodata, mean)
    except (OSError, ValueError) as error:
        raise UserError(f"The PIL image {_described(image)} cannot be used: {error}.") from error


def _check_format(image: ImageFile.ImageFile) -> None:
    """Refuse formats that are not read from files either: Pillow passes EPS to Ghostscript, which runs it."""
    if image.format not in (*FORMATS, "MPO", HEIF):
        raise ValueError(f"its format is {image.format}; give a copy of its pixels, image.convert('RGB')")


def _check_pixels(kind: str, dtype: object, is_uint8: bool) -> None:
    if not is_uint8:
        raise TypeError(f"An image as {kind} of {dtype} was given; its pixels must be uint8, 0 to 255.")


def _described(value: object) -> str:
    if isinstance(value, Image.Image):
        return f"of mode {value.mode} and size {value.size}"
    return f"a {type(value).__name__}"
