"""One label per image or several: what differs between the two in loss, metrics and scores."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from inceptionnext_lit.preprocessing import NOT_COUNTED
from inceptionnext_lit.tasks.classification.device_metrics import CountedAccuracy

EVALUATED = ("val", "val_ema", "test", "test_ema")


class Targets(Protocol):
    """What a classifier says of an image.

    Attributes:
        metric_names: Names of its metrics, the one by which the best epoch is chosen first.
    """

    metric_names: tuple[str, ...]

    def metrics(self) -> nn.ModuleDict:
        """A MetricCollection for each split and each set of weights, under ``of_train``, ``of_val`` and so on.

        A ``ModuleDict`` has methods of its own named train and eval, hence the prefix in the keys.
        """
        ...

    def per_class(self) -> nn.ModuleDict:
        """Metrics with a value for each class, under the same keys; empty where there are none."""
        ...

    def counted(self, labels: Tensor) -> Tensor:
        """Which images of an evaluation's batch count, as booleans of shape (N,)."""
        ...

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """An evaluation's logits (N, K) and labels, integers, without images that the metrics would count."""
        ...

    def scored(self, logits: Tensor) -> Tensor:
        """What the metrics take in the place of logits, both of shape (N, K)."""
        ...

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each image of an evaluation's batch, of shape (N,); any finite number for one that does not count."""
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """From logits to probabilities, both of shape (N, K)."""
        ...

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """Logits whose probabilities are the mean of those of two logits, all of shape (N, K)."""
        ...


class SingleLabel:
    """Each image has one class.

    Args:
        num_classes: Number of classes K.
    """

    metric_names: tuple[str, ...] = ("acc1", "acc5", "macro_acc")

    def __init__(self, num_classes: int) -> None:
        self._classes = num_classes

    def metrics(self) -> nn.ModuleDict:
        """Accuracies that count images and classes."""
        metrics = MetricCollection(
            {
                "acc1": CountedAccuracy(self._classes, average="micro"),
                "acc5": CountedAccuracy(self._classes, average="micro", top_k=min(5, self._classes)),
                "macro_acc": CountedAccuracy(self._classes, average="macro"),
            },
            # Groups merge metrics whose counts are equal after one batch: acc5 and macro_acc where all were right.
            compute_groups=False,
        )
        return nn.ModuleDict({f"of_{stage}": metrics.clone(f"{stage}/") for stage in ("train", *EVALUATED)})

    def per_class(self) -> nn.ModuleDict:
        """None."""
        return nn.ModuleDict()

    def counted(self, labels: Tensor) -> Tensor:
        """By the class index."""
        return labels != NOT_COUNTED

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """All: the accuracies tell which images count."""
        return logits, labels

    def scored(self, logits: Tensor) -> Tensor:
        """The same: only their order counts."""
        return logits

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(logits, labels, reduction="none", ignore_index=NOT_COUNTED)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return logits.softmax(dim=1)

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """The logarithm of the mean probability."""
        return torch.logaddexp(one.log_softmax(dim=1), other.log_softmax(dim=1)) - torch.log(one.new_tensor(2.0))


class MultiLabel:
    """Each image has any number of labels, each of which is decided on its own.

    Args:
        class_names: Names of the K labels.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = list(class_names)
        self.metric_names: tuple[str, ...] = ("mAP", "f1", *(f"f1/{name}" for name in self._names))

    def metrics(self) -> nn.ModuleDict:
        """The mean over labels of average precision, and of F1 at a probability of one half; in training F1 alone."""
        count = len(self._names)
        f1 = MultilabelF1Score(count, validate_args=False)  # which looks at the labels' values in each step
        metrics = MetricCollection({"mAP": MultilabelAveragePrecision(count), "f1": f1}, compute_groups=False)
        evaluated = {f"of_{stage}": metrics.clone(f"{stage}/") for stage in EVALUATED}
        return nn.ModuleDict({"of_train": MetricCollection({"f1": f1}).clone("train/"), **evaluated})

    def per_class(self) -> nn.ModuleDict:
        """F1 of each label."""
        count = len(self._names)
        return nn.ModuleDict({f"of_{stage}": MultilabelF1Score(count, average="none") for stage in EVALUATED})

    def counted(self, labels: Tensor) -> Tensor:
        """By the vector's first element."""
        return labels[:, 0] != NOT_COUNTED

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Those that count, for which the host waits."""
        counted = self.counted(labels)
        return logits[counted], labels[counted].long()

    def scored(self, logits: Tensor) -> Tensor:
        """Probabilities, for which torchmetrics takes logits too if all of a batch lie between 0 and 1."""
        return logits.float().sigmoid()

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over labels."""
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid."""
        return logits.sigmoid()

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """The logit of the mean probability."""
        # log p - log(1 - p), twice the mean each: exact in single precision, also where p is 0 or 1 to the last digit
        return torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other)) - torch.logaddexp(
            F.logsigmoid(-one), F.logsigmoid(-other)
        )
