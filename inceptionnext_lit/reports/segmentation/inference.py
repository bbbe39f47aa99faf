"""Run a segmentation model over images with masks, and count pixels."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from inceptionnext_lit.data.decode.image import failure_reason
from inceptionnext_lit.data.evaluation_set import EvaluationSet
from inceptionnext_lit.data.loaders import build_loader
from inceptionnext_lit.data.scenes import EvaluatedScenes, SceneInput
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Size
from inceptionnext_lit.reports.segmentation.objects import measure_objects
from inceptionnext_lit.reports.segmentation.table import Counts, Floats, SceneTable
from inceptionnext_lit.tasks.classification.device_metrics import MeanLoss
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.tasks.segmentation.inference import Best
from inceptionnext_lit.tasks.segmentation.metrics import BoundaryF1, ConfusionMatrix, SegmentationMetrics

RAW, AVERAGED = "raw", "ema"
_STAGE = "val"


@dataclass(frozen=True)
class Segmented:
    """What a model predicted.

    Attributes:
        tables: The predictions of the raw weights and, if any, the averaged ones, under ``raw`` and ``ema``.
        unreadable: The files that could not be read and the reasons.
        seconds: Duration, including reading and both sets of weights.
    """

    tables: dict[str, SceneTable]
    unreadable: list[tuple[str, str]]
    seconds: float


class Examined(NamedTuple):
    """An image with the prediction for it.

    Attributes:
        pixels: The model's input before normalization, (C, h, w).
        mask: True classes, uint8 (H, W), 255 for ignored pixels.
        classes: Predicted classes, uint8 (H, W).
    """

    pixels: Tensor
    mask: NDArray[np.uint8]
    classes: NDArray[np.uint8]


class ScenePredictor(Protocol):
    """A segmentation model that predicts one image at a time.

    Attributes:
        weights: Names of its sets of weights; ``predict`` uses the last.
        device: Where its predictions are.
    """

    weights: Sequence[str]
    device: torch.device

    def predict(self, weights: str, pixels: Tensor, mask: Tensor, path: str) -> Best:
        """Return the prediction for an image.

        Args:
            weights: Which weights.
            pixels: The image as the data yields it, (C, h, w).
            mask: True classes (H, W).
            path: The image, for messages.

        Raises:
            UserError: If it cannot be segmented, or outputs are NaN or infinite.
        """
        ...


def segment_images(
    model: ScenePredictor,
    images: EvaluationSet,
    scenes: EvaluatedScenes,
    *,
    num_workers: int,
    tick: Callable[[int], object] = lambda images: None,
) -> Segmented:
    """Segment images with all sets of weights, as ``validate`` does, one image after the other.

    Only numbers of pixels are kept, so that memory does not grow with the images' sizes.

    Args:
        model: The model.
        images: What the images are.
        scenes: The images with their masks.
        num_workers: Loader processes.
        tick: Called with the number of images after each.

    Raises:
        UserError: If no image can be read, or outputs are NaN or infinite.
    """
    start = time.perf_counter()
    tallies = {name: Tally(images.class_names, model.device) for name in model.weights}
    lost: list[tuple[int, str]] = []
    for index, pixels, mask in _read(scenes, num_workers):
        if isinstance(pixels, str):
            lost.append((index, pixels))
        else:
            for name, tally in tallies.items():
                found = model.predict(name, pixels, mask, scenes.samples.paths[index])
                tally.add(index, found, mask.to(model.device), with_objects=name == model.weights[-1])
        tick(1)
    unreadable = [(scenes.samples.paths[index], reason) for index, reason in lost]
    if len(lost) == len(scenes):
        raise UserError(
            f"None of {len(scenes):,} images could be evaluated. The first, {unreadable[0][0]}: {unreadable[0][1]}."
        )
    tables = {name: tally.table(images) for name, tally in tallies.items()}
    return Segmented(tables, unreadable, time.perf_counter() - start)


class TaskPredictor:
    """A checkpoint's model on a device, with its sets of weights.

    Args:
        task: The model, with preprocessing; it is moved to the device.
        device: Device to run on.

    Attributes:
        weights: ``raw`` and, if there are averaged weights, ``ema``.
        device: The device.

    Raises:
        UserError: If the checkpoint does not describe its model's input.
    """

    def __init__(self, task: SegmentationTask, device: torch.device) -> None:
        if task.preprocessing is None:
            raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
        self._task = task.eval().requires_grad_(False).to(device)
        self._to_input = SceneInput(task.preprocessing)
        self.device = device
        self._models = dict(zip((RAW, AVERAGED), task.evaluated_models(_STAGE).values(), strict=False))
        self.weights: Sequence[str] = list(self._models)

    @torch.inference_mode()
    def predict(self, weights: str, pixels: Tensor, mask: Tensor, path: str) -> Best:
        """Return the prediction for an image; see :class:`ScenePredictor`."""
        size: Size = (mask.shape[-2], mask.shape[-1])
        image, segment = self._to_input(pixels.to(self.device)), self._task.laid_out(self._models[weights])
        found = self._task.inference.best(segment, image, size, mask.to(self.device))
        if not bool(found.probabilities.sum().isfinite()):
            raise UserError(f"The model's outputs for {path} are NaN or infinite; use another checkpoint.")
        return found


def examine(model: ScenePredictor, scenes: EvaluatedScenes, index: int) -> Examined:
    """Segment one image with the weights that ``predict`` uses.

    Args:
        model: The model.
        scenes: The images with their masks.
        index: The image.

    Raises:
        UserError: If it cannot be read any more.
    """
    pixels, mask, path = scenes[index]
    classes = model.predict(model.weights[-1], pixels, mask, path).classes
    return Examined(pixels, mask.numpy(), classes.to(torch.uint8).cpu().numpy())


_Item = tuple[int, Tensor | str, Tensor]


class _Readable(Dataset[_Item]):
    """Images with masks; one that cannot be read is its reason instead."""

    def __init__(self, scenes: EvaluatedScenes) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> _Item:
        try:
            pixels, mask, _ = self._scenes[index]
        except Exception as error:  # decoders raise almost any type on damaged data
            return index, failure_reason(error), torch.empty(0)
        return index, pixels, mask


def _read(scenes: EvaluatedScenes, num_workers: int) -> Iterator[_Item]:
    """Read the images one by one: a batch of large ones would take much memory, and the model takes one at a time."""
    for [item] in build_loader(_Readable(scenes), list, None, batch_size=1, num_workers=num_workers):
        yield item


@dataclass
class _Rows:
    index: list[int] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    boundary: list[float] = field(default_factory=list)
    objects: list[Floats] = field(default_factory=list)


class Tally:
    """Numbers of pixels of the images so far, by the metrics that ``validate`` uses.

    Args:
        class_names: The class names in index order.
        device: Where predictions are.
    """

    def __init__(self, class_names: Sequence[str], device: torch.device) -> None:
        self._metrics = SegmentationMetrics(class_names).to(device)
        self._metrics.use_exact_sums(device)
        count = len(class_names)
        self._matrix: Counts = np.zeros((count, count), dtype=np.int64)
        self._class_objects: Floats = np.zeros((count, 3, 4))
        self._rows = _Rows()

    def add(self, index: int, found: Best, mask: Tensor, *, with_objects: bool) -> None:
        """Add an image.

        Args:
            index: The image.
            found: The prediction for it; without probabilities of the true classes, its loss is NaN.
            mask: True classes (H, W), on the same device.
            with_objects: Whether to measure its objects.
        """
        rows, key = self._rows, f"of_{_STAGE}"
        self._metrics.begin(_STAGE)
        with torch.inference_mode():
            self._metrics.evaluated(_STAGE, found, mask)
        matrix: Counts = cast(ConfusionMatrix, self._metrics.matrices[key]).matrix.cpu().numpy()
        self._matrix += matrix
        rows.index.append(index)
        rows.sizes.append((mask.shape[1], mask.shape[0]))
        rows.counts.append(np.stack([np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)]))
        total = float(cast(MeanLoss, self._metrics.losses[key]).total)
        rows.losses.append(np.nan if found.of_true is None else total)
        if key in self._metrics.boundaries:
            boundary = cast(BoundaryF1, self._metrics.boundaries[key])
            rows.boundary.append(float(boundary.total) if int(boundary.images) else np.nan)
        if with_objects:
            classes = found.classes.to(torch.uint8)
            objects = measure_objects(mask.cpu().numpy(), classes.cpu().numpy(), len(self._matrix))
            self._class_objects += objects
            rows.objects.append(objects.sum(axis=0))

    def table(self, images: EvaluationSet) -> SceneTable:
        """Return the table of all images that were added.

        Args:
            images: What the images are.
        """
        rows = self._rows
        right, true, found = np.stack(rows.counts, axis=1)
        return SceneTable(
            images.class_names,
            [images.samples.paths[index] for index in rows.index],
            [images.splits[index] for index in rows.index] if any(images.splits) else (),
            np.array(rows.sizes, dtype=np.int64),
            right,
            true,
            found,
            np.array(rows.losses),
            self._matrix,
            np.array(rows.boundary) if rows.boundary else None,
            np.stack(rows.objects) if rows.objects else None,
            self._class_objects if rows.objects else None,
        )
