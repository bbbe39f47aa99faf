"""Operations on arrays against timm's on pictures, over the whole range of magnitudes."""

import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import rand_augment_choices, rand_augment_ops
from timm.data.transforms import str_to_pil_interp

from inceptionnext_lit.data.transforms.augmentation import Augmentation
from inceptionnext_lit.data.transforms.rand_augment import operations
from tests.data.test_jpeg import photo

MEAN = [0.485, 0.456, 0.406]


@pytest.fixture(scope="module")
def pictures(sample: Path) -> list[Image.Image]:
    """A photo-like picture, a real one enlarged, and edge cases: dark, uniform and tiny ones."""
    with Image.open(sorted((sample / "train" / "bag").iterdir())[0]) as image:
        real = image.convert("RGB").resize((90, 70), Image.Resampling.BICUBIC)
    return [
        photo(96, 64), real, real.point(lambda level: level // 3 + 40), photo(7, 5), photo(1, 9), photo(2, 2),
        Image.new("RGB", (20, 10), (3, 200, 255)), Image.new("RGB", (1, 1), (9, 9, 9)),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("posterize_to_0_bits_fails")
@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "random"])
def test_operations_are_timms(pictures: list[Image.Image], increasing: bool, interpolation: str) -> None:
    """Equal, except that sheared pixels whose exact value is a whole number may differ by one level of 255."""
    hparams: dict[str, object] = {"img_mean": (124, 116, 104), "magnitude_std": 0.5}
    if interpolation != "random":
        hparams["interpolation"] = str_to_pil_interp(interpolation)
    worst: dict[str, int] = defaultdict(int)
    differing: dict[str, list[float]] = defaultdict(list)
    for magnitude in np.linspace(0, 10, 11).tolist():
        augmentation = Augmentation(
            rand_augment_magnitude=magnitude, rand_augment_increasing=increasing, interpolation=interpolation
        )
        theirs = rand_augment_ops(magnitude, 1.0, hparams, rand_augment_choices("", increasing=increasing))
        for mine, other in zip(operations(augmentation, MEAN), theirs, strict=True):
            assert mine.name == other.name
            mine.prob = 1.0
            for number, picture in enumerate(pictures):
                random.seed(number)
                try:
                    expected = np.asarray(other(picture)).astype(int)
                except ValueError:  # posterize to 0 bits, which timm does not support
                    assert "Posterize" in other.name
                    continue
                random.seed(number)
                before = np.array(picture)
                difference = np.abs(mine(before).astype(int) - expected)
                assert np.array_equal(before, np.asarray(picture))  # the input does not change
                worst[mine.name] = max(worst[mine.name], int(difference.max()))
                differing[mine.name].append(float((difference > 0).mean()))
    assert len(worst) == 15
    assert {name for name, levels in worst.items() if levels > 0} <= {"ShearX", "ShearY"}
    assert max(worst.values()) <= 1
    assert np.mean(differing["ShearX"] + differing["ShearY"]) < 0.01


def test_draws_are_timms() -> None:
    """Two operations, each with probability 0.5, with magnitudes of mean 9 and deviation 0.5, in either direction."""
    ops = operations(Augmentation(), MEAN)
    drawn: Counter[str] = Counter()
    levels: list[float] = []

    def recorded(name: str) -> object:
        def operation(image: np.ndarray, *level: float, **_: object) -> np.ndarray:
            drawn[name] += 1
            if name == "ShearX":
                levels.extend(level)
            return image

        return operation

    for op in ops:
        op.aug_fn = recorded(op.name)
    random.seed(0)
    image = np.zeros((4, 4, 3), np.uint8)
    for op in ops:
        for _ in range(2000):
            op(image)
    assert all(900 < count < 1100 for count in drawn.values())
    assert len(drawn) == 15
    sizes = np.abs(levels) / 0.3 * 10
    assert sizes.mean() == pytest.approx(9, abs=0.06)
    assert sizes.std() == pytest.approx(0.5, abs=0.05)
    assert sizes.max() <= 10
    assert 0.45 < np.mean(np.array(levels) > 0) < 0.55
