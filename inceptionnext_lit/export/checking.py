"""The comparison of an exported file with the checkpoint that it comes from."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.data.decode.image import image_suffixes
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.sources.embedded import SAMPLE, unpack_sample
from inceptionnext_lit.data.sources.inputs import resolve_inputs
from inceptionnext_lit.data.transforms.pipeline import eval_transform, reader
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.formats import Format, Session
from inceptionnext_lit.export.wrapper import ExportedModel
from inceptionnext_lit.predictions import labels
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.predictions import rank
from inceptionnext_lit.wording import count, listed

IMAGES = 64
AGREEMENT = 0.995  # least share of images with the label that predict gives
_BATCH = 16
# sides of the embedded images, which are all alike, relative to the model's input
_SIDES = ((1.0, 1.0), (1.5, 1.0), (0.8, 1.3), (2.2, 1.7))
# times the tolerance of probabilities, for features of pixels: where a resized value is halfway between two levels,
# runtimes round it to either, and features are not squeezed like probabilities
_FEATURES_OF_PIXELS = 10
_FURTHER = (32, 64)  # pixels by which a second size of tensors is larger


@dataclass(frozen=True)
class Checked:
    """How an exported file differs from the checkpoint.

    Attributes:
        images: Number of images.
        source: Which images.
        difference: Largest difference of a probability from the checkpoint's for the same pixels.
        same_labels: Number of images with the same label as the checkpoint's for the same pixels.
        features: Largest difference of a feature, relative to the largest one; None without features.
        end_to_end: Largest difference of a probability from those of ``predict``.
        as_predicted: Number of images with the label that ``predict`` gives.
        others: The images with another one: name, label of ``predict``, label of the file.
        from_pixels: Whether the file resizes images.
    """

    images: int
    source: str
    difference: float
    same_labels: int
    features: float | None
    end_to_end: float
    as_predicted: int
    others: tuple[tuple[str, str, str], ...]
    from_pixels: bool

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        found: dict[str, Any] = {
            "images": self.images,
            "source": self.source,
            "max_probability_difference": self.difference,
            "same_labels": self.same_labels,
            "predict": {"max_probability_difference": self.end_to_end, "same_labels": self.as_predicted},
        }
        return found if self.features is None else found | {"max_feature_difference": self.features}

    def lines(self) -> list[str]:
        """Describe it."""
        features = "" if self.features is None else f"; features by {self.features:.1e} of the largest"
        found = [
            f"Checked on {self.images} images ({self.source}): probabilities differ from the checkpoint's by at most "
            f"{self.difference:.1e}, and the labels of {self.same_labels} agree{features}",
            f"As predict prepares the images: probabilities differ by at most {self.end_to_end:.1e}, and the labels of "
            f"{self.as_predicted} agree",
        ]
        return found + [f"  {name}: {theirs} by predict, {ours} by the file" for name, theirs, ours in self.others]

    def refuse(self, one: Format) -> None:
        """Refuse a file that differs too much.

        Args:
            one: Its format.

        Raises:
            UserError: If it does.
        """
        of_features = one.tolerance * (_FEATURES_OF_PIXELS if self.from_pixels else 1)
        for what, difference, tolerance in (
            ("probabilities", self.difference, one.tolerance),
            ("features", self.features or 0.0, of_features),
        ):
            if not difference <= tolerance:  # also if it is NaN
                raise UserError(
                    f"The {one.title} file differs from the checkpoint: its {what} by {difference:.2g} on "
                    f"{self.images} images, more than {tolerance:g}; nothing was written. Choose another --format."
                )
        if self.as_predicted < AGREEMENT * self.images:
            pairs = [f"{name} ({theirs}, {ours})" for name, theirs, ours in self.others]
            raise UserError(
                f"The {one.title} file gives {self.as_predicted} of {self.images} images the label that predict gives; "
                f"nothing was written. Others (predict's label, the file's): {listed(pairs)}. Prepare the images "
                "outside the file, with --input tensor."
            )


class Check:
    """Images and what the checkpoint says about them, for comparison with files.

    Args:
        task: The classifier.
        model: What is exported, before the norms are folded.
        folder: The images: a folder, a file, a pattern or a manifest; None for the embedded images, or random inputs if
            the model does not take pictures.
        sizes: Whether the file takes images of any size.

    Raises:
        UserError: If none can be read, or the checkpoint's outputs for one are NaN or infinite.
    """

    def __init__(self, task: ClassificationTask, model: ExportedModel, folder: str | None, *, sizes: bool) -> None:
        self._task, self._model = task, model
        preprocessing = model.preprocessing.copy()
        preprocessing.pop("exif", None)  # as in the predict command
        random = folder is None and model.channels not in (1, 3, 4)
        self.source = "random" if random else (folder or "the embedded ones")
        if random:
            self._names = [f"image {number + 1}" for number in range(IMAGES)]
            self._prepared: Tensor = model.example(IMAGES)
            pictures: list[Any] = []
        else:
            self._names, pictures = _pictures(folder, preprocessing, model.size if folder is None and sizes else None)
            transform = eval_transform(preprocessing)
            pixels = stack_pixels([transform(picture) for picture in pictures])
            self._prepared = ToInput(preprocessing)(pixels)
        if model.takes == "tensor":
            self._inputs = list(self._prepared.numpy())
        else:
            whole = pictures if sizes else [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]
            self._inputs = [np.asarray(picture) for picture in whole]
        self._predicted = self._scores(self._prepared)

    def _scores(self, inputs: Tensor) -> Tensor:
        """Return the checkpoint's probabilities for normalized images."""
        with torch.inference_mode():
            batches = [self._task.scores(self._task(batch)) for batch in torch.split(inputs, _BATCH)]
        scores = torch.cat(batches)
        if lost := (~scores.isfinite().all(dim=1)).nonzero()[:, 0].tolist():
            names = [self._names[place] for place in lost]
            raise UserError(
                f"The checkpoint's outputs are NaN or infinite for {listed(names)}; export an earlier checkpoint."
            )
        return scores

    def _labels(self, scores: Tensor) -> list[str]:
        thresholds = self._task.calibration.thresholds
        found = rank(scores, paths=[], multi_label=self._task.data_spec.multi_label, thresholds=thresholds)
        return labels(found, self._task.class_names)

    def compare(self, session: Session, dynamic: Collection[str]) -> Checked:
        """Compare a file with the checkpoint.

        Args:
            session: The file.
            dynamic: The dimensions of its input that may vary.
        """
        found, features = self._run(session, self._inputs, several="batch" in dynamic)
        if self._model.takes == "tensor":
            expected, embedded = self._predicted, self._expected(self._inputs)[1]
        else:
            expected, embedded = self._expected(self._inputs)
        difference = _largest(found, expected)
        if self._model.takes == "tensor" and "size" in dynamic:
            larger = [side + more for side, more in zip(self._model.size, _FURTHER, strict=True)]
            others = list(torch.nn.functional.interpolate(self._prepared[:_BATCH], larger).numpy())
            further, _ = self._run(session, others, several="batch" in dynamic)
            difference = max(difference, _largest(further, self._expected(others)[0]))
        ours, theirs, predicted = self._labels(found), self._labels(expected), self._labels(self._predicted)
        others_named = [
            (name, one, other) for name, one, other in zip(self._names, predicted, ours, strict=True) if one != other
        ]
        return Checked(
            images=len(self._names),
            source=self.source,
            difference=difference,
            same_labels=sum(one == other for one, other in zip(ours, theirs, strict=True)),
            features=None if features is None or embedded is None else _relative(features, embedded),
            end_to_end=_largest(found, self._predicted),
            as_predicted=len(self._names) - len(others_named),
            others=tuple(others_named),
            from_pixels=self._model.takes == "pixels",
        )

    def _expected(self, inputs: list[np.ndarray]) -> tuple[Tensor, Tensor | None]:
        """Return the checkpoint's probabilities, and features if they are exported, for a file's inputs."""

        def run(images: np.ndarray) -> list[Tensor]:
            with torch.inference_mode():
                outputs = self._model(torch.from_numpy(images))
            return list(outputs) if isinstance(outputs, tuple) else [outputs]

        return self._gather(run, inputs, several=True)

    def _run(self, session: Session, inputs: list[np.ndarray], *, several: bool) -> tuple[Tensor, Tensor | None]:
        """Return a file's probabilities, and its features if it has any."""

        def run(images: np.ndarray) -> list[Tensor]:
            return [torch.from_numpy(np.asarray(output, np.float32)) for output in session.run(images)]

        return self._gather(run, inputs, several=several)

    def _gather(self, run: Any, inputs: list[np.ndarray], *, several: bool) -> tuple[Tensor, Tensor | None]:
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, image in enumerate(inputs):
            groups[image.shape].append(place)
        scores: list[Any] = [None] * len(inputs)
        features: list[Any] = [None] * len(inputs)
        for places in groups.values():
            for chunk in _chunks(places, several=several):
                outputs = run(np.stack([inputs[place] for place in chunk]))
                for row, place in enumerate(chunk):
                    scores[place] = outputs[0][row]
                    features[place] = outputs[1][row] if self._model.with_features else None
        found = torch.stack(scores)
        if self._model.takes == "tensor":
            found = self._task.scores(found)
        return found, torch.stack(features) if self._model.with_features else None


def _chunks(places: list[int], *, several: bool) -> list[list[int]]:
    """Divide images of a size into batches, the first of one image."""
    size = _BATCH if several else 1
    return [places[:1], *(places[start : start + size] for start in range(1, len(places), size))]


def _largest(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference; NaN if one is."""
    return float((found - expected).abs().max())


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _pictures(
    folder: str | None, preprocessing: Preprocessing, size: tuple[int, int] | None
) -> tuple[list[str], list[Any]]:
    """Return the names of the images, and what the reader makes of them; those that cannot be read are left out.

    Args:
        folder: Where they are; None for the embedded ones.
        preprocessing: Preprocessing of the model's input.
        size: The model's input size, if embedded images are to have various sizes.
    """
    root = str(unpack_sample() / "val") if folder in (None, SAMPLE) else str(folder)
    paths = resolve_inputs([root], image_suffixes(len(preprocessing["mean"])))
    number = min(IMAGES, len(paths))
    load = reader(preprocessing)
    names: list[str] = []
    pictures: list[Any] = []
    reason: UserError | None = None
    for path in (paths[place * len(paths) // number] for place in range(number)):
        try:
            picture = load(path)
        except UserError as error:
            reason = error
            continue
        if size is not None and isinstance(picture, Image.Image):
            sides = _SIDES[len(names) % len(_SIDES)]
            height, width = (max(1, round(side * length)) for side, length in zip(sides, size, strict=True))
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        names.append(path)
        pictures.append(picture)
    if not names:
        raise UserError(f"None of {count(number, 'image')} of --check could be read. {reason}") from reason
    return names, pictures
