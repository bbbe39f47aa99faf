"""Probabilities of one label per image and of several, and their mean over two views."""

import pytest
import torch

from inceptionnext_lit.tasks.kinds import Kind, MultiLabel, SingleLabel

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 30.0, -30.0]])
OTHER = torch.tensor([[-1.0, 0.0, 3.0], [1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SingleLabel(3), LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)),
        (MultiLabel("abc"), 1 / (1 + (-LOGITS).exp())),
    ],
    ids=["single", "multi"],
)
def test_probabilities_and_their_mean(kind: Kind, expected: torch.Tensor) -> None:
    torch.testing.assert_close(kind.probabilities(LOGITS), expected)
    mean = (kind.probabilities(LOGITS) + kind.probabilities(OTHER)) / 2
    torch.testing.assert_close(kind.probabilities(kind.average(LOGITS, OTHER)), mean)


def test_small_logits_of_several_labels_are_not_taken_for_probabilities() -> None:
    logits, labels = torch.tensor([[0.3, 0.2], [0.4, 0.1]]), torch.tensor([[1, 0], [0, 1]])  # all above one half
    kind = MultiLabel("ab")
    f1 = kind.metrics()["of_train"]
    f1.update(kind.scored(logits), labels)
    assert float(f1.compute()["train/f1"]) == pytest.approx(2 / 3)
