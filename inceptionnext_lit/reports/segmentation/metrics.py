"""Metrics of a segmentation model over all images, with bootstrap intervals over images, and their differences."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from inceptionnext_lit.reports.evaluation.bootstrap import Array, Bootstrap
from inceptionnext_lit.reports.evaluation.metrics import Metric, mean_of_defined, ratio
from inceptionnext_lit.reports.segmentation.objects import FOUND, IOU, NUMBER, RECALL, SIZES
from inceptionnext_lit.reports.segmentation.table import SceneTable
from inceptionnext_lit.tasks.segmentation.metrics import summarize as summarize_matrix

OBJECT_METRICS = {"found": FOUND, "recall": RECALL, "IoU": IOU}


@dataclass(frozen=True)
class ClassScore:
    """The metrics of a class.

    Attributes:
        iou: Intersection over union of its pixels.
        accuracy: Share of its pixels that are predicted as it.
        pixels: Number of its pixels.
        predicted: Number of pixels predicted as it.
        images: Number of images that have it in the mask.
    """

    iou: Metric
    accuracy: Metric
    pixels: int
    predicted: int
    images: int


@dataclass(frozen=True)
class ObjectScore:
    """How well the objects of a size are segmented.

    Attributes:
        number: Number of objects.
        metrics: ``found``, the share with an IoU of 0.5 or more; the means of ``recall`` and ``IoU``.
    """

    number: int
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class SceneSummary:
    """The metrics of a set of predictions.

    Attributes:
        metrics: Metrics over all images by name, those of :class:`SegmentationMetrics`.
        classes: Metrics of each class.
        objects: Metrics of objects by size; empty if they were not measured.
    """

    metrics: dict[str, Metric]
    classes: list[ClassScore]
    objects: dict[str, ObjectScore]


@dataclass(frozen=True)
class SceneComparison:
    """A model compared with the first one, on the same images.

    Attributes:
        metrics: Differences of the metrics over all images by name: this model's minus the first one's.
        classes: Differences of the IoU of each class.
        gains: Difference of the mean IoU of each image, (N,); NaN without labeled pixels.
    """

    metrics: dict[str, Metric]
    classes: list[Metric]
    gains: Array


def summarize_scenes(table: SceneTable, bootstrap: Bootstrap) -> SceneSummary:
    """Compute the metrics of predictions.

    Args:
        table: The predictions.
        bootstrap: How images are resampled.
    """
    low, high = bootstrap.ends(np.concatenate(list(_resampled(table, bootstrap))), len(table))
    names, values = _overall(table)
    whole = summarize_matrix(torch.from_numpy(table.matrix))
    values += [float(value) for of_class in (whole["IoU"], whole["Acc"]) for value in of_class]
    values += _object_values(table)
    found = [Metric(value, float(a), float(b)) for value, a, b in zip(values, low, high, strict=True)]
    classes = len(table.class_names)
    ious, accuracies = found[len(names) :][:classes], found[len(names) + classes :][:classes]
    images = (table.true > 0).sum(axis=0)
    concerned = ((table.true + table.found) > 0).sum(axis=0)
    scores = [
        ClassScore(
            _with_images(ious[k], int(concerned[k])),
            _with_images(accuracies[k], int(images[k])),
            int(table.true[:, k].sum()),
            int(table.found[:, k].sum()),
            int(images[k]),
        )
        for k in range(classes)
    ]
    objects = _object_scores(table, found[len(names) + 2 * classes :])
    return SceneSummary(dict(zip(names, found, strict=False)), scores, objects)


def compare_scenes(first: SceneTable, second: SceneTable, bootstrap: Bootstrap) -> SceneComparison:
    """Compare the predictions of two models for the same images in the same order.

    Both are evaluated on the same bootstrap samples.

    Args:
        first: The first model's predictions.
        second: The other's.
        bootstrap: How images are resampled.
    """
    pairs = zip(_resampled(first, bootstrap), _resampled(second, bootstrap), strict=True)
    low, high = bootstrap.ends(np.concatenate([two - one for one, two in pairs]), len(first))
    names, before = _overall(first)
    after = _overall(second)[1]
    of_classes = [summarize_matrix(torch.from_numpy(table.matrix))["IoU"].numpy() for table in (first, second)]
    values = [*np.subtract(after, before), *(of_classes[1] - of_classes[0])]
    found = [Metric(float(value), float(a), float(b)) for value, a, b in zip(values, low, high, strict=False)]
    concerned = ((first.true + first.found > 0) | (second.found > 0)).sum(axis=0)
    classes = [_with_images(metric, int(n)) for metric, n in zip(found[len(names) :], concerned, strict=True)]
    return SceneComparison(dict(zip(names, found, strict=False)), classes, second.mean_iou - first.mean_iou)


def _overall(table: SceneTable) -> tuple[list[str], list[float]]:
    """Return the names and values of the metrics over all images."""
    whole = summarize_matrix(torch.from_numpy(table.matrix))
    values = {name: float(whole[name]) for name in ("mIoU", "mAcc", "aAcc")}
    if table.boundary is not None:
        there = np.isfinite(table.boundary)
        values["boundary_f1"] = float(ratio(table.boundary[there].sum(), there.sum()))
    values["loss"] = float(ratio(table.losses.sum(), table.labeled.sum()))
    return list(values), list(values.values())


def _resampled(table: SceneTable, bootstrap: Bootstrap) -> Iterator[Array]:
    """Yield the metrics of resamples in blocks (R, M): overall, IoU and accuracy of each class, of objects by size."""
    counts = [counts.astype(np.float64) for counts in (table.right, table.true, table.found)]
    labeled = table.labeled.astype(np.float64)
    edge = (
        None if table.boundary is None else (np.nan_to_num(table.boundary), np.isfinite(table.boundary).astype(float))
    )
    for weights in bootstrap.weights(len(table)):
        right, true, found = (weights @ one for one in counts)
        iou, accuracy = ratio(right, true + found - right), ratio(right, true)
        columns = [mean_of_defined(iou.T), mean_of_defined(accuracy.T), ratio(right.sum(axis=1), true.sum(axis=1))]
        if edge is not None:
            columns.append(ratio(weights @ edge[0], weights @ edge[1]))
        columns.append(ratio(weights @ table.losses, weights @ labeled))
        blocks = [np.stack(columns, axis=1), iou, accuracy]
        if table.objects is not None:
            sums = np.tensordot(weights, table.objects, axes=1)  # (R, N) and (N, 3, 4) -> (R, 3, 4)
            blocks += [ratio(sums[:, :, place], sums[:, :, NUMBER]) for place in OBJECT_METRICS.values()]
        yield np.concatenate(blocks, axis=1)


def _object_values(table: SceneTable) -> list[float]:
    if table.objects is None:
        return []
    sums = table.objects.sum(axis=0)
    return [float(value) for place in OBJECT_METRICS.values() for value in ratio(sums[:, place], sums[:, NUMBER])]


def _object_scores(table: SceneTable, found: list[Metric]) -> dict[str, ObjectScore]:
    if table.objects is None:
        return {}
    numbers, images = table.objects[:, :, NUMBER].sum(axis=0), (table.objects[:, :, NUMBER] > 0).sum(axis=0)
    scores = {}
    for place, size in enumerate(SIZES):
        of_size = [_with_images(metric, int(images[place])) for metric in found[place :: len(SIZES)]]
        scores[size] = ObjectScore(int(numbers[place]), dict(zip(OBJECT_METRICS, of_size, strict=True)))
    return scores


def _with_images(metric: Metric, images: int) -> Metric:
    """Return a metric without its interval if fewer than two images contribute to it."""
    return metric if images > 1 else Metric(metric.value, np.nan, np.nan)
