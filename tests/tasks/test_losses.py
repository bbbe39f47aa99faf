import math

import pytest
import torch
from timm.loss import SoftTargetCrossEntropy
from torch.nn import functional as F

from inceptionnext_lit.tasks.classification.losses import classification_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
LABELS = torch.tensor([0, 1])
MIXED = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.6, 0.4]])


def sigmoid_loss(logit: float, target: float) -> float:
    return -(target * math.log(1 / (1 + math.exp(-logit))) + (1 - target) * math.log(1 - 1 / (1 + math.exp(-logit))))


def test_cross_entropy_of_labels() -> None:
    first, second = ([math.exp(value) for value in row] for row in LOGITS.tolist())
    expected = -(math.log(first[0] / sum(first)) + math.log(second[1] / sum(second))) / 2
    assert float(classification_loss(LOGITS, LABELS, name="cross_entropy")) == pytest.approx(expected)


def test_soft_cross_entropy_is_that_of_mixed_targets_smoothed() -> None:
    smoothed = MIXED * 0.9 + 0.1 / 3
    loss = classification_loss(LOGITS, MIXED, name="cross_entropy", label_smoothing=0.1)
    torch.testing.assert_close(loss, SoftTargetCrossEntropy()(LOGITS, smoothed))


@pytest.mark.parametrize(("targets", "rows"), [(LABELS, [[1, 0, 0], [0, 1, 0]]), (MIXED, MIXED.tolist())])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_the_mean_over_images_and_classes(
    targets: torch.Tensor, rows: list[list[float]], smoothing: float
) -> None:
    loss = classification_loss(LOGITS, targets, name="bce", label_smoothing=smoothing)
    expected = [
        sigmoid_loss(logit, target * (1 - smoothing) + smoothing / 3)
        for logits, row in zip(LOGITS.tolist(), rows, strict=True)
        for logit, target in zip(logits, row, strict=True)
    ]
    assert float(loss) == pytest.approx(sum(expected) / 6, rel=1e-5)


def test_half_precision_logits_are_computed_in_single() -> None:
    loss = classification_loss(LOGITS.bfloat16(), LABELS, name="bce")
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(LOGITS, torch.eye(3)[LABELS])), rel=1e-2
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_are_the_mean_of_weight_times_loss(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0.5, 2.0, 1.0, 1.0, 0.5])
    given = {"label_smoothing": smoothing, "weights": weights}
    single = [F.cross_entropy(logits[n : n + 1], labels[n : n + 1], label_smoothing=smoothing) for n in range(5)]
    expected = (weights * torch.stack(single)).mean()
    torch.testing.assert_close(classification_loss(logits, labels, name="cross_entropy", **given), expected)
    soft = F.one_hot(labels, 4).float()
    torch.testing.assert_close(classification_loss(logits, soft, name="cross_entropy", **given), expected)
    for name in ("cross_entropy", "bce"):
        ones = classification_loss(logits, labels, name=name, label_smoothing=smoothing, weights=torch.ones(5))
        plain = classification_loss(logits, labels, name=name, label_smoothing=smoothing)
        torch.testing.assert_close(ones, plain)
    of_image = F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(dim=1)
    if not smoothing:
        weighted = classification_loss(logits, labels, name="bce", weights=weights)
        torch.testing.assert_close(weighted, (weights * of_image).mean())
