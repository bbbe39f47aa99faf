"""The segmentation models that ``evaluate`` compares: checkpoints, or exported files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inceptionnext_lit.cli.evaluate.candidates import logged_curves
from inceptionnext_lit.cli.evaluate.exports import measure_file
from inceptionnext_lit.cli.exported_file import is_exported
from inceptionnext_lit.data.evaluation_set import Run
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.exported import open_exported
from inceptionnext_lit.predict.exported_segmenter import ExportedSegmenter
from inceptionnext_lit.preprocessing import Preprocessing, height_and_width
from inceptionnext_lit.reports.evaluation.cost import measure_cost
from inceptionnext_lit.reports.segmentation.inference import RAW, ScenePredictor, TaskPredictor
from inceptionnext_lit.tasks.loading import is_segmentation, load_segmentation_task
from inceptionnext_lit.tasks.segmentation.inference import Best
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA
from inceptionnext_lit.training.callbacks.settings import KEY as RUN


@dataclass(frozen=True)
class SceneCandidate:
    """A segmentation model to evaluate.

    Attributes:
        path: Its file.
        predictor: Predicts one image at a time.
        class_names: Its classes in index order.
        palette: Color of each class.
        preprocessing: Preprocessing of its input.
        takes_originals: Whether it resizes images itself.
        record: Its description as plain data.
        measure: Returns what it costs.
        run: What its checkpoint says about its run.
        curves: Logged metrics of its run: pairs of epoch and value.
    """

    path: Path
    predictor: ScenePredictor
    class_names: list[str]
    palette: Sequence[Sequence[int]]
    preprocessing: Preprocessing
    takes_originals: bool
    record: Mapping[str, Any]
    measure: Callable[[], dict[str, Any]]
    run: Run = field(default_factory=Run)
    curves: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)


def segments(path: Path) -> bool:
    """Return whether a file is a segmentation model: a checkpoint, or an exported file.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read.
    """
    return open_exported(path)[1].task == "segmentation" if is_exported(path) else is_segmentation(path)


def load_scene_candidate(path: Path, device: torch.device, max_pixels: int) -> SceneCandidate:
    """Load a segmentation model to evaluate.

    Args:
        path: The file.
        device: Where checkpoints are run; exported files run on the CPU.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        UserError: If it cannot be loaded, or does not say how its images were prepared.
    """
    return _exported(path, max_pixels) if is_exported(path) else _checkpoint(path, device)


def _checkpoint(path: Path, device: torch.device) -> SceneCandidate:
    task, content = load_segmentation_task(path)
    if task.preprocessing is None:
        raise UserError(f"{path} does not say how its images were prepared; use a checkpoint written by fit.")
    arguments = task.plain_hparams()
    arguments.pop("data_spec", None)
    record = {
        "name": arguments.get("name"),
        "decoder": task.segmentation.decoder,
        "preprocessing": task.preprocessing,
        "arguments": {key: value for key, value in arguments.items() if value is not None},
    }
    measure = partial(measure_cost, task.inference_model, task.preprocessing, device=device, batch_size=1, path=path)
    return SceneCandidate(
        path,
        TaskPredictor(task, device),
        task.class_names,
        task.data_spec.palette or colormap(task.num_classes),
        task.preprocessing,
        task.inference.takes_originals,
        record,
        measure,
        Run(content.get(RUN, {}), content.get(DATA, {})),
        logged_curves(path),
    )


def _exported(path: Path, max_pixels: int) -> SceneCandidate:
    segmenter = ExportedSegmenter(path, max_pixels)
    about, (height, width) = segmenter.metadata, height_and_width(segmenter.preprocessing)
    example = Image.new("RGB", (width, height))
    return SceneCandidate(
        path,
        FilePredictor(segmenter),
        segmenter.class_names,
        segmenter.palette or colormap(len(segmenter.class_names)),
        segmenter.preprocessing,
        True,
        {"name": about.name, "preprocessing": dict(segmenter.preprocessing), "arguments": {"input": about.takes}},
        lambda: measure_file(lambda: segmenter.scores(example), 1, path, segmenter.preprocessing),
    )


class FilePredictor:
    """An exported file, whose outputs may have the probabilities of all classes, or only that of the best.

    Args:
        segmenter: The file.

    Attributes:
        weights: ``raw``, as files have one set.
        device: The CPU.
    """

    def __init__(self, segmenter: ExportedSegmenter) -> None:
        self._segmenter = segmenter
        self.weights: Sequence[str] = (RAW,)
        self.device = torch.device("cpu")

    def predict(self, weights: str, pixels: Tensor, mask: Tensor, path: str) -> Best:
        """Return the prediction for an image of its own size; see :class:`ScenePredictor`."""
        picture = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
        try:
            classes, best, scores = self._segmenter.scores(picture)
        except UserError as error:
            raise UserError(f"{path} cannot be evaluated. {error}") from error
        if not np.isfinite(best).all():
            raise UserError(f"The file's outputs for {path} are NaN or infinite; export another checkpoint.")
        of_true = None
        if scores is not None:
            true = mask.long().where(mask < len(scores), 0)[None]
            of_true = torch.from_numpy(scores).gather(0, true)[0]
        return Best(torch.from_numpy(classes.astype(np.int64)), torch.from_numpy(best), of_true)
