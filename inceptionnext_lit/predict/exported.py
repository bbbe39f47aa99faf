"""Label images with an exported file, in Python. This module does not import torch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.class_words import remember_words
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import FORMATS, Session, format_of
from inceptionnext_lit.export.metadata import Metadata, read
from inceptionnext_lit.predict.images import as_picture, batches, image_name
from inceptionnext_lit.predict.prediction import Prediction, as_predictions
from inceptionnext_lit.predict.resizing import resize_and_crop, resized_size
from inceptionnext_lit.predictions import Predictions, rank_arrays
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width

if TYPE_CHECKING:
    from inceptionnext_lit.predict.images import ImageLike


_OBLONG = 3  # largest ratio of a side of a picture at scale and that of the model's input

Opened = tuple[Session, Metadata]
"""An exported file, ready to run, and what it says about itself."""


def open_exported(path: str | Path) -> Opened:
    """Open a file that ``export`` has written.

    Args:
        path: The file, such as ``model.onnx``.

    Raises:
        UserError: If it is not such a file, is damaged, or needs a package that is not installed.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise UserError(f"{file} does not exist; give a file that export has written.")
    one = format_of(file)
    if one is not None and not one.runs_here:
        raise UserError(f"{file} runs on a Mac only; export the model in another --format to run it here.")
    if one is None:
        known = ", ".join(dict.fromkeys(one.suffix for one in FORMATS.values() if one.runs_here))
        raise UserError(f"{file} cannot be run here; give a file that export has written, one of {known}.")
    session = one.open_session(file)
    return session, read(session.text, file)


class ExportedClassifier:
    """A classifier in a file that ``export`` has written; thread-safe, on the CPU.

    Args:
        path: The file, such as ``model.onnx``.
        max_pixels: Maximum number of pixels of an image.
        opened: The file, if it was opened already.

    Attributes:
        class_names: The classes in the order of the model's outputs.
        preprocessing: How images are resized, cropped and normalized.
        multi_label: Whether an image may have several labels.
        metadata: What the file says about itself.

    Raises:
        UserError: If it is not such a file, is damaged, or needs a package that is not installed.
    """

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS, opened: Opened | None = None) -> None:
        self._session, self.metadata = opened or open_exported(path)
        if self.metadata.task != "classification":
            raise UserError(f"{path} is a segmentation model; load it with load_segmenter.")
        self.class_names: list[str] = list(self.metadata.class_names)
        self.preprocessing: Preprocessing = self.metadata.preprocessing.copy()
        self.preprocessing.pop("exif", None)  # as in the predict command
        self.multi_label: bool = self.metadata.multi_label
        self._max_pixels = max_pixels
        self._resizes = self.metadata.takes == "pixels" and "size" in self.metadata.dynamic
        if self.metadata.class_words is not None:
            remember_words(dict(zip(self.class_names, self.metadata.class_words, strict=True)))

    def predict(self, images: "ImageLike | Iterable[ImageLike]", batch_size: int = 32) -> list[Prediction]:
        """Label images; see :meth:`Classifier.predict`.

        Args:
            images: One or several images: paths, PIL images, uint8 arrays or uint8 tensors.
            batch_size: Images per batch, if the file takes several at once.

        Returns:
            One prediction per image, in their order.

        Raises:
            UserError: If a file cannot be read, or the model's outputs for an image are NaN or infinite.
            TypeError: If something is not an image.
            ValueError: If an array has another shape, or the batch size is below 1.
        """
        found: list[Prediction] = []
        for batch in batches(images, batch_size):
            names = [image_name(image, len(found) + place) for place, image in enumerate(batch)]
            found += as_predictions(self.rank([self.prepare(image) for image in batch]), self.class_names, names)
        return found

    def prepare(self, image: "ImageLike") -> NDArray[Any]:
        """Return an image as the file takes it.

        Args:
            image: A path, PIL image, array or tensor.

        Returns:
            Pixels, uint8 (H, W, 3), or a normalized image, float32 (C, S, S).

        Raises:
            UserError: If a file cannot be read.
        """
        return self.as_input(self.load(image))

    def load(self, image: "ImageLike") -> Any:
        """Return an image as a picture, upright and with the model's channels, or else as an array.

        Args:
            image: A path, PIL image, array or tensor.

        Raises:
            UserError: If a file cannot be read.
        """
        if not isinstance(image, (str, Path)):
            return as_picture(image, self.preprocessing, self._max_pixels)
        mean, nodata = self.preprocessing["mean"], self.preprocessing.get("nodata")
        return load_image(image, len(mean), self._max_pixels, nodata, mean)

    def as_input(self, picture: Any) -> NDArray[Any]:
        """Return a picture as the file takes it; see :meth:`prepare`.

        Args:
            picture: As :meth:`load` returns it.
        """
        if not isinstance(picture, Image.Image):
            return _prepare_array(picture, self.preprocessing)
        if self._resizes:
            return np.asarray(picture)
        return self.from_pixels(resize_and_crop(picture, self.preprocessing))

    def pixels_at_scale(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return a picture at the scale at which the model sees it, uint8 (H, W, C).

        It is the whole picture if the file crops it, or the central part of an oblong one, and otherwise what the model
        sees.

        Args:
            picture: As :meth:`load` returns it.
        """
        if not self._resizes:
            return resize_and_crop(picture, self.preprocessing)
        whole = resized_size(picture, self.preprocessing)
        most = (_OBLONG * side for side in reversed(height_and_width(self.preprocessing)))
        width, height = (min(pair) for pair in zip(whole, most, strict=True))
        kept = [length * part / all_ for length, part, all_ in zip(picture.size, (width, height), whole, strict=True)]
        left, top = ((length - part) / 2 for length, part in zip(picture.size, kept, strict=True))
        box = (left, top, left + kept[0], top + kept[1])
        return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))

    def from_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Return pixels as the file takes them; see :meth:`prepare`.

        Args:
            pixels: As :meth:`pixels_at_scale` returns them.
        """
        if self.metadata.takes == "pixels":
            return pixels
        mean, std = (np.array(values, np.float32) for values in (self.preprocessing["mean"], self.preprocessing["std"]))
        normalized = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(normalized.transpose(2, 0, 1))  # (S, S, C) -> (C, S, S)

    def rank(self, inputs: Sequence[NDArray[Any]], paths: Sequence[str] = ()) -> Predictions:
        """Return the best classes of images.

        Args:
            inputs: The images as :meth:`prepare` returns them.
            paths: Their files.
        """
        return rank_arrays(
            self.probabilities(inputs),
            list(paths),
            multi_label=self.multi_label,
            thresholds=self.metadata.thresholds,
        )

    def probabilities(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the probabilities of images, float32 (N, classes); NaN where the model's outputs are not finite.

        Args:
            inputs: The images as :meth:`prepare` returns them, of any sizes.
        """
        scores = np.empty((len(inputs), len(self.class_names)), np.float32)
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, image in enumerate(inputs):
            groups[image.shape].append(place)
        for places in groups.values():
            for chunk in [places] if "batch" in self.metadata.dynamic else [[place] for place in places]:
                scores[chunk] = self._session.run(np.stack([inputs[place] for place in chunk]))[0]
        return scores if self.metadata.takes == "pixels" else self._from_logits(scores)

    def _from_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        lost: NDArray[np.bool_] = np.logical_not(np.isfinite(logits).all(axis=1))
        scaled = np.where(lost[:, None], 0, logits) / np.float32(self.metadata.temperature)
        if self.multi_label:
            scores = 1 / (1 + np.exp(-np.abs(scaled)))  # of the absolute value, which does not overflow
            scores = np.where(scaled >= 0, scores, 1 - scores)
        else:
            exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            scores = exponentials / exponentials.sum(axis=1, keepdims=True)
        scores[lost] = np.nan
        return scores.astype(np.float32)


def _prepare_array(picture: Any, preprocessing: Preprocessing) -> NDArray[Any]:
    """Return a normalized image of channels that Pillow does not support, which torch resizes."""
    import torch

    from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
    from inceptionnext_lit.data.transforms.pipeline import eval_transform

    pixels = stack_pixels([eval_transform(preprocessing)(torch.as_tensor(picture))])
    return ToInput(preprocessing)(pixels)[0].contiguous().numpy()
