"""Probabilities of single-label and multi-label targets, and what counts in their evaluation."""

import pytest
import torch
from lightning.pytorch import LightningModule

from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.tasks.classification.metrics import ClassificationMetrics
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


def test_one_of_several_right_labels_is_enough() -> None:
    """The class with the largest logit stands for all labels of an image; padding stays padding."""
    targets = SingleLabel(4)
    logits = torch.tensor([[0.1, 0.9, 0.3, 0.2], [0.5, 0.1, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0]])
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [NOT_COUNTED] * 4])
    assert targets.single(logits, labels).tolist() == [1, 2, 3, NOT_COUNTED]
    assert targets.counted(targets.single(logits, labels)).tolist() == [True, True, True, False]
    indices = torch.tensor([0, 1, 2, 3])
    assert targets.single(logits, indices) is indices


def test_outputs_that_do_not_count_are_ignored() -> None:
    metrics = ClassificationMetrics(SingleLabel(4), list("abcd"))
    metrics.outputs = [1, 3]
    metrics.evaluated(LoggedNowhere(), "val", torch.tensor([[9.0, 1, 8, 2], [9, 3, 8, 2]]), torch.tensor([3, 3]))
    assert metrics.metrics["of_val"]["acc1"].compute() == 0.5
    expected = torch.nn.functional.cross_entropy(torch.tensor([[1.0, 2], [3, 2]]), torch.tensor([1, 1]))
    torch.testing.assert_close(metrics.losses["of_val"].compute(), expected)


class LoggedNowhere(LightningModule):
    """A task without a trainer."""

    def log_dict(self, *args: object, **kwargs: object) -> None:
        """Do nothing."""
