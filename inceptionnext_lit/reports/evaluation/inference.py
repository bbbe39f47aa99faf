"""Run a classifier over labeled images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.data.device_batch import ToInput
from inceptionnext_lit.data.evaluation_set import EvaluationSet
from inceptionnext_lit.data.loaders import build_loader
from inceptionnext_lit.data.measured_images import MeasuredImages, collate_measured
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.table import Floats, Labels, PredictionTable, log_softmax
from inceptionnext_lit.tasks.classification import ClassificationTask

RAW, AVERAGED = "raw", "ema"
MEASURES = ("shorter side (pixels)", "aspect ratio (width / height)", "brightness (0 to 1)")
NOT_FINITE = "the model's outputs for it are NaN or infinite"


@dataclass(frozen=True)
class Inference:
    """Predictions of a classifier.

    Attributes:
        tables: The predictions of the raw weights and, if any, the averaged ones, under ``raw`` and ``ema``.
        unreadable: The other files and the reasons.
        seconds: Duration, including reading and both sets of weights.
    """

    tables: dict[str, PredictionTable]
    unreadable: list[tuple[str, str]]
    seconds: float


def predict_images(
    task: ClassificationTask,
    images: EvaluationSet,
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    max_pixels: int = MAX_PIXELS,
    tick: Callable[[int], object] = lambda images: None,
) -> Inference:
    """Predict labeled images with all sets of weights, as ``validate`` does.

    Args:
        task: The classifier, with preprocessing; it is moved to the device.
        images: The images.
        device: Device to run on.
        batch_size: Images per batch.
        num_workers: Loader processes.
        max_pixels: Maximum number of pixels of an image.
        tick: Called with the number of images of each batch.

    Raises:
        UserError: If no image can be read, or the classifier has no preprocessing.
    """
    if (preprocessing := task.preprocessing) is None:
        raise UserError("The checkpoint does not say how its images were prepared; use one written by fit.")
    start = time.perf_counter()
    task = task.eval().requires_grad_(False).to(device)
    models = dict(zip((RAW, AVERAGED), task.evaluated_models("val").values(), strict=False))
    samples, to_input, is_multi = images.samples, ToInput(preprocessing), task.data_spec.multi_label
    dataset = MeasuredImages(samples.paths, eval_transform(preprocessing, max_pixels), max_pixels)
    loader = build_loader(dataset, collate_measured, None, batch_size=batch_size, num_workers=num_workers)
    found: dict[str, list[Floats]] = {name: [] for name in models}
    kept: list[NDArray[np.int64]] = []
    measures: list[NDArray[np.float64]] = []
    lost: list[tuple[int, str]] = []
    with torch.inference_mode():
        for batch in loader:
            lost += batch.unreadable
            if batch.images is not None:
                raw = batch.images.to(device)
                logits = {name: task.classify(model, raw.finished(to_input)).float() for name, model in models.items()}
                finite = torch.stack([one.isfinite().all(dim=1) for one in logits.values()]).all(dim=0).cpu().numpy()
                indices = np.array(batch.indices)
                lost += [(int(index), NOT_FINITE) for index in indices[~finite]]
                kept.append(indices[finite])
                measures.append(_measure(batch.sizes, raw.pixels)[finite])
                for name, one in logits.items():
                    found[name].append(normalized(one.cpu().numpy()[finite], images.outputs, multi_label=is_multi))
            tick(len(batch.indices) + len(batch.unreadable))
    unreadable = [(samples.paths[index], reason) for index, reason in sorted(lost)]
    if not sum(map(len, kept)):
        raise UserError(
            f"None of {len(samples):,} images could be evaluated. The first, {unreadable[0][0]}: {unreadable[0][1]}."
        )
    order = np.concatenate(kept)
    base = table_without_logits(images, order, np.concatenate(measures))
    tables = {name: replace(base, logits=np.concatenate(logits)) for name, logits in found.items()}
    used, stored = list(tables)[-1], task.calibration  # which was found for the weights that predict uses
    thresholds = (
        stored.thresholds
        if images.outputs is None or stored.thresholds is None
        else ([stored.thresholds[output] for output in images.outputs])
    )
    tables[used] = replace(tables[used].scaled(stored.temperature), thresholds=thresholds)
    return Inference(tables, unreadable, time.perf_counter() - start)


def normalized(logits: Floats, outputs: list[int] | None, *, multi_label: bool) -> Floats:
    """Return logits as tables have them: of the outputs that are evaluated, as log probabilities if single-label.

    Args:
        logits: Shape (N, classes).
        outputs: The outputs to keep; None for all.
        multi_label: Whether an image may have several labels.
    """
    chosen = logits if outputs is None else logits[:, outputs]
    return chosen if multi_label else log_softmax(chosen.astype(np.float64)).astype(np.float32)


def _measure(sizes: NDArray[np.float64], pixels: torch.Tensor) -> NDArray[np.float64]:
    """Return the shorter side, aspect ratio and brightness of each image, (N, 3)."""
    scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
    brightness = pixels.float().mean(dim=(1, 2, 3)).cpu().numpy() / scale
    return np.stack([sizes.min(axis=1), sizes[:, 0] / sizes[:, 1], brightness], axis=1)


def table_without_logits(
    images: EvaluationSet, order: NDArray[np.int64], measures: NDArray[np.float64]
) -> PredictionTable:
    """Return the table of predictions of images, without the predictions.

    Args:
        images: The images.
        order: The indices of those that could be read.
        measures: Their shorter sides, aspect ratios and brightness, (N, 3).
    """
    samples, classes = images.samples, len(images.class_names)
    labels: Labels
    if samples.counts is None:
        labels = samples.labels[order].astype(np.int64)
    else:
        labels = np.zeros((len(samples), classes), dtype=bool)
        labels[samples.owners(), samples.labels] = True
        labels = labels[order]
    chosen = order.tolist()
    paths = [samples.paths[index] for index in chosen]
    columns = {
        name: values[order] if isinstance(values, np.ndarray) else [values[index] for index in chosen]
        for name, values in images.columns.items()
    }
    measured = {name: np.round(measures[:, place], 4) for place, name in enumerate(MEASURES)}
    return PredictionTable(
        images.class_names,
        paths,
        labels,
        np.empty((0, classes), dtype=np.float32),
        [images.splits[index] for index in chosen] if any(images.splits) else (),
        None if samples.groups is None else [samples.groups[index] for index in chosen],
        columns=columns | measured | {"folder": [path.rpartition("/")[0] for path in paths]},
    )
