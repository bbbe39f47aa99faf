"""The random draws for an image have their source's distribution."""

import math
import random

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from timm.data.auto_augment import rand_augment_transform
from timm.data.transforms import RandomResizedCropAndInterpolation

from inceptionnext_lit.data import Augmentation
from inceptionnext_lit.data.transforms.erasing import draw_erasure
from inceptionnext_lit.data.transforms.pipeline import RandomCrop
from inceptionnext_lit.data.transforms.rand_augment import operations
from tests.fidelity.sources import recipe

DRAWS = 4000
BOUND = math.sqrt(
    -math.log(1e-6 / 2) / 2 / DRAWS
)  # Kolmogorov and Smirnov's for one sample; a false alarm in a million
TWO = BOUND * math.sqrt(2)  # and for two


def magnitudes(ops: list, count: int) -> np.ndarray:
    """Return the magnitudes of an operation, as drawn by :meth:`AugmentOp.__call__`."""
    seen: list[float] = []
    op = ops[0]
    op.prob, op.level_fn, op.aug_fn = 1.0, lambda level, hparams: seen.append(level) or (), lambda image, *a, **k: image
    image = Image.new("RGB", (2, 2))
    for _ in range(count):
        op(image)
    return np.array(seen)


@pytest.mark.parametrize("stem", ["atto", "tiny", "iso_s", "deit_s"])
def test_rand_augments_magnitudes(stem: str) -> None:
    """``m9-mstd0.5-inc1``: normal, cut at 0 and 10; atto's ``m5-inc1-mstd101``: even from 0 to 5."""
    config = recipe(stem).config["data"]["augmentation"]
    random.seed(0)
    found = magnitudes(operations(Augmentation(**config), [0.5] * 3), DRAWS)
    word = "rand-m5-inc1-mstd101" if stem == "atto" else "rand-m9-mstd0.5-inc1"
    source = rand_augment_transform(word, {"img_mean": (124, 116, 104)})
    random.seed(1)
    expected = magnitudes(source.ops, DRAWS)
    assert stats.ks_2samp(found, expected).statistic < TWO
    law = stats.uniform(0, 5) if stem == "atto" else stats.norm(9, 0.5)
    assert stats.kstest(found, law.cdf).statistic < (BOUND if stem == "atto" else 0.03)  # a fortieth lies above 10
    assert source.num_layers == config["rand_augment_num_ops"] == 2


def test_the_crop() -> None:
    """Compare top, left, height and width of 4,000 crops of one picture with timm's."""
    image = Image.new("RGB", (500, 375))
    crop = RandomCrop((224, 224), (0.08, 1.0), (3 / 4, 4 / 3), "bicubic")
    random.seed(0)
    ours = np.array([crop._draw(500, 375)[:4] for _ in range(DRAWS)], dtype=float)
    random.seed(1)
    theirs = np.array(
        [RandomResizedCropAndInterpolation.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)], float
    )
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).statistic < TWO


@pytest.mark.parametrize("probability", [0.1, 0.25])
def test_the_erased_rectangle(probability: float) -> None:
    """A 50th to a third of the image, of an aspect from 0.3 to 1 / 0.3, evenly in its logarithm."""
    random.seed(0)
    drawn = [draw_erasure(probability, 224, 224) for _ in range(4 * DRAWS)]
    found = [one for one in drawn if one is not None]
    share = len(found) / len(drawn)
    assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / len(drawn))
    areas = np.array([one.height * one.width / 224**2 for one in found])
    assert 0.0195 < areas.min() < 0.03
    assert 0.30 < areas.max() < 0.34
    aspects = np.log([one.height / one.width for one in found])
    assert abs(aspects.mean()) < 5 * aspects.std() / math.sqrt(len(aspects))
    assert abs(aspects).max() < math.log(1 / 0.3) + 0.1
