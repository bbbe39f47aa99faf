"""Segmentation losses against their definitions."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.segmentation.losses import PixelLossOptions, balanced_weights


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits of three classes, and masks of which some pixels are ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 5, generator=generator)
    masks = torch.randint(0, 3, (2, 6, 5), generator=generator)
    masks[0, :2] = 255
    return logits, masks


def per_pixel(logits: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The probability of the true class of each labeled pixel, and those classes."""
    scores = logits.double().numpy()
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    image, row, column = np.nonzero(masks.numpy() != 255)
    classes = masks.numpy()[image, row, column]
    return probabilities[image, classes, row, column], classes


def test_cross_entropy_is_a_mean_over_all_pixels(batch: tuple[Tensor, Tensor]) -> None:
    true, classes = per_pixel(*batch)
    loss = PixelLossOptions().build(3)(*batch)
    assert loss.item() == pytest.approx(-np.log(true).sum() / batch[1].numel(), rel=1e-5)
    weights = [0.5, 1.0, 3.0]
    loss = PixelLossOptions(class_weights=weights).build(3)(*batch)
    assert loss.item() == pytest.approx(-(np.array(weights)[classes] * np.log(true)).sum() / batch[1].numel(), rel=1e-5)


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 1), (0.1, 12), (0.01, 1), (1.0, 1000)])
def test_ohem_takes_the_hardest_pixels(batch: tuple[Tensor, Tensor], threshold: float, kept: int) -> None:
    true, _ = per_pixel(*batch)
    bound = max(np.sort(true)[min(kept, len(true)) - 1], threshold)
    expected = -np.log(true[true < bound]).sum() / batch[1].numel()
    loss = PixelLossOptions({"ohem": 1.0}, ohem_threshold=threshold, ohem_kept=kept).build(3)(*batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_parts_are_added_with_their_weights(batch: tuple[Tensor, Tensor]) -> None:
    ce = PixelLossOptions().build(3)(*batch)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)(*batch)
    lovasz = smp.losses.LovaszLoss("multiclass", ignore_index=255)(*batch)
    focal = smp.losses.FocalLoss("multiclass", ignore_index=255)(*batch)
    options = PixelLossOptions({"cross_entropy": 1.0, "dice": 2.0, "lovasz": 0.5, "focal": 3.0})
    assert options.build(3)(*batch).item() == pytest.approx((ce + 2 * dice + lovasz / 2 + 3 * focal).item(), rel=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "ohem", "dice", "lovasz", "focal"])
def test_ignored_images_have_a_loss_and_gradients_of_0(batch: tuple[Tensor, Tensor], name: str) -> None:
    logits = batch[0].requires_grad_()
    loss = PixelLossOptions({name: 1.0}).build(3)(logits, torch.full_like(batch[1], 255))  # type: ignore[dict-item]
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {}}, "model.segmentation.loss.weights is empty"),
        ({"weights": {"dice": 0.0}}, "model.segmentation.loss.weights.dice is 0.0"),
        ({"class_weights": [1.0, -1.0, 1.0]}, "numbers of 0 or more"),
        ({"class_weights": [1.0]}, "has 1 numbers, but the data has 3 classes"),
        ({"ohem_threshold": 0.0}, "ohem_threshold is 0.0"),
        ({"ohem_kept": 0}, "ohem_kept is 0"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PixelLossOptions(**options).build(3)  # type: ignore[arg-type]


def test_balanced_weights_are_median_frequencies_over_frequencies() -> None:
    pixels = [{0: 80, 1: 20}, {0: 60, 1: 20, 2: 20}, {0: 100}]
    frequencies = [240 / 300, 40 / 200, 20 / 100]
    weights = [0.2 / frequency for frequency in frequencies]  # the median is 0.2
    mean = (240 * weights[0] + 40 * weights[1] + 20 * weights[2]) / 300
    assert balanced_weights(pixels, 3) == pytest.approx([weight / mean for weight in weights], abs=1e-4)


def test_balanced_weights_are_bounded_and_keep_the_scale_of_the_loss() -> None:
    pixels = [{0: 10**6, 1: 1, 2: 3000}]
    found = balanced_weights(pixels, 4)
    assert found[1] / found[2] == pytest.approx(10, rel=1e-3)  # 3000 unbounded
    assert found[0] / found[2] == pytest.approx(0.1, rel=1e-3)
    assert found[3] == found[2]  # absent, and of the median frequency
    total = sum(pixels[0].values())
    assert sum(found[index] * count for index, count in pixels[0].items()) / total == pytest.approx(1, abs=1e-3)
    assert balanced_weights([{0: 5}], 2) == [1, 1]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.tasks.segmentation.losses.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'inceptionnext-lit\[smp\]'"):
        PixelLossOptions({"dice": 1.0}).build(3)
