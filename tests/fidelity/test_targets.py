"""The share of the partner in a mixed image, and the targets of the loss, compared with timm's."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data.mixup import Mixup, cutmix_bbox_and_lam, mixup_target
from torch.nn import functional as F

from inceptionnext_lit.tasks.classification.losses import classification_loss
from inceptionnext_lit.tasks.classification.mixup import Mix
from tests.fidelity.sources import RECIPES, recipe

SIZE = 32
SETTINGS = {"atto": (0.2, 1.0), "base_384": (0.0, 0.0)}


class Drawn(NamedTuple):
    cutmix: np.ndarray
    share: np.ndarray


def bound(first: int, second: int) -> float:
    """Return the bound of the two-sample Kolmogorov-Smirnov statistic, with one false alarm in a million."""
    return math.sqrt(-math.log(1e-6 / 2) / 2 * (1 / first + 1 / second))


def ours(mix: Mix, draws: int) -> Drawn:
    """Return the operation and the share for many batches of a black and a white image."""
    torch.manual_seed(0)
    images, labels = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, SIZE, SIZE), torch.tensor([0, 1])
    drawn = [mix(images, labels, 2)[:2] for _ in range(draws)]
    mixed, share = torch.stack([images[0] for images, _ in drawn]), torch.stack([targets[0, 0] for _, targets in drawn])
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), 1 - share, rtol=0, atol=1e-5)
    cutmix = ((mixed == 0) | (mixed == 1)).all(dim=(1, 2, 3))
    return Drawn(cutmix.numpy(), share.double().numpy())


def theirs(mix: Mix, draws: int) -> Drawn:
    """The same by timm, which corrects the share by the area of the pasted box."""
    np.random.seed(0)
    source = Mixup(mix.mixup, mix.cutmix, prob=mix.prob, switch_prob=mix.switch_prob)
    cutmix, share = [], []
    for _ in range(draws):
        own, is_cutmix = source._params_per_batch()
        if is_cutmix:
            _, own = cutmix_bbox_and_lam((2, 3, SIZE, SIZE), own)
        cutmix.append(is_cutmix)
        share.append(own)
    return Drawn(np.array(cutmix), np.array(share))


@pytest.mark.parametrize(
    ("stem", "draws"),
    [("tiny", 4_000), *(pytest.param(stem, 20_000, marks=pytest.mark.slow) for stem in ("tiny", "atto"))],
)
def test_the_share_of_the_partner(stem: str, draws: int) -> None:
    mix = recipe(stem).mix
    found, expected = ours(mix, draws), theirs(mix, draws)
    assert stats.ks_2samp(found.share, expected.share).statistic < bound(draws, draws)
    # a share of nearly 0 or 1 does not show the operation: CutMix of an empty box does not mix, nor does mixup
    found, expected = (Drawn(*np.array(drawn)[:, np.abs(drawn.share - 0.5) < 0.49]) for drawn in (found, expected))
    rates = [drawn.cutmix.mean() for drawn in (found, expected)]
    assert abs(rates[0] - rates[1]) < 5 * math.sqrt(0.25 / len(found.share) + 0.25 / len(expected.share))
    for is_cutmix in (0, 1):
        shares = [drawn.share[drawn.cutmix == is_cutmix] for drawn in (found, expected)]
        assert stats.ks_2samp(*shares).statistic < bound(*map(len, shares))


@pytest.mark.parametrize("stem", RECIPES)
def test_mixing_is_its_sources(stem: str) -> None:
    mix = recipe(stem).mix
    assert (mix.mixup, mix.cutmix) == SETTINGS.get(stem, (0.8, 1.0))
    assert (mix.prob, mix.switch_prob) == (1.0, 0.5)


@pytest.mark.parametrize("stem", ["atto", "tiny", "iso_s", "deit_s"])
def test_the_targets_of_the_loss(stem: str) -> None:
    """A cross-entropy's gradient by the logits is their softmax less the target: smoothed, then mixed, in timm."""
    options = recipe(stem).config["model"]["loss"]
    labels = torch.arange(8) % 5
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.manual_seed(1)
    _, targets, _ = recipe(stem).mix(torch.zeros(8, 3, SIZE, SIZE), labels, 5)
    share = float(targets[0, 0])
    assert 0.02 < share < 0.98
    loss = classification_loss(logits, targets, name=options["name"], label_smoothing=options["label_smoothing"])
    (gradient,) = torch.autograd.grad(loss, logits)
    seen = F.softmax(logits.detach(), dim=1) - len(labels) * gradient
    mirrored = torch.tensor([0, 1, 2, 3, 7, 6, 5, 4])  # in timm, an image's partner is its mirror in the batch
    expected = mixup_target(labels[mirrored], 5, share, 0.1)
    torch.testing.assert_close(seen[mirrored], expected.double(), rtol=1e-5, atol=1e-6)
