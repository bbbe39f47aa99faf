"""Metrics of segmentation against MMSegmentation's definition in NumPy, and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torchmetrics.classification import MulticlassJaccardIndex

from inceptionnext_lit.tasks.segmentation.inference import Best
from inceptionnext_lit.tasks.segmentation.metrics import BoundaryF1, ConfusionMatrix, SegmentationMetrics, summarize


def intersect_and_union(found: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """MMSegmentation's areas: intersection, union, prediction and label, of one image."""
    found, true = found[true != 255], true[true != 255]
    bins = np.arange(classes + 1)
    same, predicted, label = (np.histogram(x, bins)[0] for x in (found[found == true], found, true))
    return np.stack([same, predicted + label - same, predicted, label])


@pytest.fixture
def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """Predictions and masks of 101 images of several sizes; class 3 never occurs, class 4 only in predictions."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(101):
        size = tuple(rng.integers(3, 20, 2))
        true = rng.choice([0, 1, 2, 255], size, p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8)
        found = np.where(rng.random(size) < 0.7, np.where(true == 255, 0, true), rng.choice([0, 1, 2, 4], size))
        pairs.append((found, true))
    return pairs


def test_metrics_are_mmsegmentations(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    metric = ConfusionMatrix(5)
    for found, true in images:
        metric.update(torch.from_numpy(found), torch.from_numpy(true))
    summary = summarize(metric.compute())
    same, union, _, label = sum(intersect_and_union(found, true, 5) for found, true in images)
    with np.errstate(invalid="ignore"):
        iou, accuracy = same / union, same / label
    np.testing.assert_allclose(summary["IoU"].numpy(), iou, rtol=1e-9)
    np.testing.assert_allclose(summary["Acc"].numpy(), accuracy, rtol=1e-9)
    assert np.isnan(iou[3])
    assert iou[4] == 0
    assert np.isnan(accuracy[3:]).all()
    assert summary["mIoU"].item() == pytest.approx(np.nanmean(iou), rel=1e-9)
    assert summary["mAcc"].item() == pytest.approx(np.nanmean(accuracy), rel=1e-9)
    assert summary["aAcc"].item() == pytest.approx(same.sum() / label.sum(), rel=1e-9)


def test_iou_is_torchmetrics(images: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found, true = (torch.cat([torch.from_numpy(np.asarray(pair[at])).flatten() for pair in images]) for at in (0, 1))
    metric = ConfusionMatrix(5)
    metric.update(found, true)
    expected = MulticlassJaccardIndex(5, average=None, ignore_index=255)(found, true.long())
    torch.testing.assert_close(summarize(metric.compute())["IoU"].nan_to_num(0.0).float(), expected)


def boundary_f1(found: np.ndarray, true: np.ndarray) -> float:
    """F1 of boundaries by exact distances."""

    def boundary(inside: np.ndarray) -> np.ndarray:
        padded = np.pad(inside, 1, constant_values=True)
        neighbors = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return inside & ~neighbors

    edges = boundary(found == 1), boundary(true == 1)
    radius = max(1, round(0.0075 * np.hypot(*true.shape)))
    shares = []
    for one, other in (edges, edges[::-1]):
        if not one.any():
            shares.append(float(not other.any()))
        else:
            distances = distance_transform_edt(~other) if other.any() else np.full(one.shape, np.inf)
            shares.append((distances[one] <= radius).mean())
    return 0.0 if sum(shares) == 0 else 2 * shares[0] * shares[1] / sum(shares)


def test_boundary_f1_is_that_of_exact_distances() -> None:
    rows, columns = np.mgrid[:150, :200]
    true = ((rows - 70) ** 2 + (columns - 90) ** 2 < 50**2).astype(np.uint8)
    shapes = [((rows - 70 - shift) ** 2 + (columns - 90) ** 2 < 48**2).astype(np.uint8) for shift in (0, 1, 3, 40)]
    pairs = [*((shape, true) for shape in shapes), (shapes[0] * 0, true), (shapes[0], true * 0)]
    metric = BoundaryF1()
    for found, mask in pairs:
        metric.update(torch.from_numpy(found), torch.from_numpy(mask))
    metric.update(torch.zeros(9, 9), torch.zeros(9, 9))  # without the class in both
    scores = [boundary_f1(found, mask) for found, mask in pairs]
    assert 0 < min(scores[:4]) < max(scores[:4]) <= 1
    assert scores[4:] == [0.0, 0.0]
    assert metric.compute().item() == pytest.approx(np.mean(scores), rel=1e-5)


def test_loss_and_names() -> None:
    metrics = SegmentationMetrics(["sky", "sea"])
    assert metrics.directions("val") == {
        "val/mIoU": "max",
        "val/mAcc": "max",
        "val/aAcc": "max",
        "val/boundary_f1": "max",
        "val/loss": "min",
    }
    found = Best(torch.tensor([[0, 1], [0, 1]]), torch.ones(2, 2), torch.tensor([[0.9, 0.8], [0.5, 0.3]]))
    masks = torch.tensor([[0, 1], [255, 0]], dtype=torch.uint8)
    metrics.evaluated("val", found, masks)
    expected = -np.log([0.9, 0.8, 0.3]).mean()
    assert metrics.losses["of_val"].compute().item() == pytest.approx(expected, rel=1e-6)  # type: ignore[operator]
    assert metrics.matrices["of_val"].compute().tolist() == [[1, 1], [0, 1]]  # type: ignore[operator]
