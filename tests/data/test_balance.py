"""Class imbalance: weights in the loss, and the balanced sampler."""

from collections import Counter

import pytest

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.balance import BalanceOptions, image_weights, images_by_class
from inceptionnext_lit.data.samplers import TrainingSampler
from inceptionnext_lit.data.sources.sample_table import Sample
from inceptionnext_lit.errors import UserError

UNEQUAL = [Sample(f"{n}.jpg", 0 if n < 6 else 1) for n in range(8)]


def test_class_weights_have_mean_1_and_balance_the_classes() -> None:
    weights = image_weights(UNEQUAL, ["a", "b"], "auto")
    assert weights == pytest.approx([8 / 12] * 6 + [8 / 4] * 2)
    assert sum(weights[:6]) == pytest.approx(sum(weights[6:]))
    assert image_weights(UNEQUAL, ["a", "b"], None) is None


def test_named_class_weights_and_weights_of_images() -> None:
    weights = image_weights(UNEQUAL, ["a", "b"], {"b": 3.0})
    assert weights == pytest.approx([8 / 12] * 6 + [24 / 12] * 2)
    own = [sample._replace(weight=2.0 if n == 0 else 1.0) for n, sample in enumerate(UNEQUAL)]
    assert image_weights(own, ["a", "b"], None) == pytest.approx([16 / 9] + [8 / 9] * 7)
    several = [Sample("1", (0, 1)), Sample("2", (0,)), Sample("3", (0,)), Sample("4", ())]
    # of 4 images, 3 have a and 1 has b: class weights 4/6 and 4/2
    raw = [(4 / 6 + 2) / 2, 4 / 6, 4 / 6, 1.0]
    assert image_weights(several, ["a", "b"], "auto") == pytest.approx([w * 4 / sum(raw) for w in raw])


def test_invalid_class_weights_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"data\.balance\.class_weights names 'c', which is not one of the classes: a, b\."
    ):
        image_weights(UNEQUAL, ["a", "b"], {"c": 1.0})
    with pytest.raises(UserError, match=r"data\.balance\.class_weights\.a is 0\.0; it must be a number above 0"):
        image_weights(UNEQUAL, ["a", "b"], {"a": 0.0})


def balanced(step: int = 4, replicas: int = 1, rank: int = 0, length: int = 100) -> TrainingSampler:
    samples = [Sample(f"{n}.jpg", 0 if n < 90 else 1 if n < 97 else 2) for n in range(length)]
    classes = images_by_class(samples, 3)
    return TrainingSampler(length, step, seed=0, replicas=replicas, rank=rank, balanced=classes)


def test_balanced_epochs_draw_the_classes_equally_often() -> None:
    sampler = balanced()
    drawn = [[draw.image for draw in sampler.draws(epoch)] for epoch in range(3)]
    for images in drawn:
        assert len(images) == 100
        of_class = Counter((image >= 90) + (image >= 97) for image in images)
        assert sorted(of_class.values()) == [33, 33, 34]
        assert max(Counter(images)[i] for i in range(90)) == 1
        assert {Counter(images)[i] for i in range(90, 97)} <= {4, 5}
    assert drawn[0] != drawn[1]
    assert [draw.image for draw in sampler.draws(0)] == drawn[0]


def test_balanced_steps_are_the_same_on_any_number_of_ranks() -> None:
    alone = [draw.image for draw in balanced(step=10).draws(1)]
    shares = [[draw.image for draw in balanced(step=10, replicas=2, rank=rank).draws(1)] for rank in (0, 1)]
    for step in range(10):
        together = shares[0][step * 5 : step * 5 + 5] + shares[1][step * 5 : step * 5 + 5]
        assert sorted(together) == sorted(alone[step * 10 : step * 10 + 10])


def test_images_without_a_label_are_a_class_of_their_own() -> None:
    several = [Sample("1", (0, 1)), Sample("2", (0,)), Sample("3", ())]
    assert images_by_class(several, 2) == [[0, 1], [0], [2]]


def test_both_options_at_once_warn() -> None:
    with pytest.warns(UserWarning, match=r"both compensate for rare classes; together, they overcompensate"):
        ImageFolderDataModule("x", balance=BalanceOptions(class_weights="auto", sampler="balanced"))
