"""Probabilities of single-label and multi-label targets, and their mean over two views."""

import pytest
import torch

from inceptionnext_lit.tasks.classification.targets import MultiLabel, SingleLabel, Targets
from tests.without_float64 import WithoutFloat64

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 30.0, -30.0]])
OTHER = torch.tensor([[-1.0, 0.0, 3.0], [1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (SingleLabel(3), LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)),
        (MultiLabel("abc"), 1 / (1 + (-LOGITS).exp())),
    ],
    ids=["single", "multi"],
)
def test_probabilities_and_their_mean(targets: Targets, expected: torch.Tensor) -> None:
    torch.testing.assert_close(targets.probabilities(LOGITS), expected)
    mean = (targets.probabilities(LOGITS) + targets.probabilities(OTHER)) / 2
    torch.testing.assert_close(targets.probabilities(targets.average(LOGITS, OTHER)), mean)


def test_small_multi_label_logits_are_not_mistaken_for_probabilities() -> None:
    logits, labels = torch.tensor([[0.3, 0.2], [0.4, 0.1]]), torch.tensor([[1, 0], [0, 1]])  # all above one half
    targets = MultiLabel("ab")
    f1 = targets.metrics()["of_train"]
    f1.update(targets.scored(logits), labels)
    assert float(f1.compute()["train/f1"]) == pytest.approx(2 / 3)


def test_the_multi_label_mean_is_exact_in_single_precision() -> None:
    values = torch.tensor([-80.0, -30.0, -3.0, -1e-3, 0.0, 0.5, 7.0, 20.0, 80.0])
    one, other = torch.cartesian_prod(values, values).unbind(1)
    with WithoutFloat64():
        mean = MultiLabel("a").average(one, other)
    # log p - log(1 - p), with 1 - p as the sum of the two small numbers that it is
    present, absent = (a.double().sigmoid() + b.double().sigmoid() for a, b in ((one, other), (-one, -other)))
    torch.testing.assert_close(mean.double(), present.log() - absent.log(), rtol=1e-6, atol=1e-6)
