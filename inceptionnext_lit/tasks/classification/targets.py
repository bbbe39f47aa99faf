"""The label types, single-label and multi-label, with their losses, metrics and scores."""

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
    """A label type.

    Attributes:
        metric_names: Names of the metrics; the first one selects the best epoch.
    """

    metric_names: tuple[str, ...]

    def metrics(self) -> nn.ModuleDict:
        """Return a MetricCollection for each split and each set of weights, under ``of_train``, ``of_val`` and so on.

        The keys have a prefix because ``ModuleDict`` has methods named train and eval.
        """
        ...

    def per_class(self) -> nn.ModuleDict:
        """Return metrics with a value per class, under the same keys; may be empty."""
        ...

    def single(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the labels of an evaluation batch in the form of the other methods."""
        ...

    def counted(self, labels: Tensor) -> Tensor:
        """Return whether each image of an evaluation batch counts, shape (N,)."""
        ...

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and integer labels for the metrics, without padding that the metrics would count."""
        ...

    def scored(self, logits: Tensor) -> Tensor:
        """Return the scores for the metrics from logits, both of shape (N, K)."""
        ...

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image of an evaluation batch, shape (N,); any finite value for padding."""
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities from logits, both of shape (N, K)."""
        ...

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """Return logits whose probabilities are the mean of those of two logits, all of shape (N, K)."""
        ...


class SingleLabel:
    """Single-label classification: each image has one class.

    Args:
        num_classes: Number of classes K.
    """

    metric_names: tuple[str, ...] = ("acc1", "acc5", "macro_acc")

    def __init__(self, num_classes: int) -> None:
        self._classes = num_classes

    def metrics(self) -> nn.ModuleDict:
        """Return top-1, top-5 and macro accuracy."""
        metrics = MetricCollection(
            {
                "acc1": CountedAccuracy(self._classes, average="micro"),
                "acc5": CountedAccuracy(self._classes, average="micro", top_k=min(5, self._classes)),
                "macro_acc": CountedAccuracy(self._classes, average="macro"),
            },
            # groups merge metrics with equal counts after one batch, such as acc5 and macro_acc if all were right
            compute_groups=False,
        )
        return nn.ModuleDict({f"of_{stage}": metrics.clone(f"{stage}/") for stage in ("train", *EVALUATED)})

    def per_class(self) -> nn.ModuleDict:
        """Return no metrics."""
        return nn.ModuleDict()

    def single(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Choose a class for images with several labels, any of which is right: the one with the largest logit.

        It is the top-1 prediction, or among the top 5, if and only if one of the labels is.

        Args:
            logits: Shape (N, K).
            labels: Class indices (N,), returned unchanged, or multi-hot vectors (N, K).
        """
        if labels.ndim == 1:
            return labels
        best = logits.masked_fill(labels <= 0, -torch.inf).argmax(dim=1)
        return torch.where(labels[:, 0] == NOT_COUNTED, NOT_COUNTED, best)

    def counted(self, labels: Tensor) -> Tensor:
        """Compare the class index with ``NOT_COUNTED``."""
        return labels != NOT_COUNTED

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return both unchanged: the accuracies ignore padding themselves."""
        return logits, labels

    def scored(self, logits: Tensor) -> Tensor:
        """Return the logits: only their order matters."""
        return logits

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy."""
        return F.cross_entropy(logits, labels, reduction="none", ignore_index=NOT_COUNTED)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the softmax."""
        return logits.softmax(dim=1)

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the logarithm of the mean probability."""
        return torch.logaddexp(one.log_softmax(dim=1), other.log_softmax(dim=1)) - torch.log(one.new_tensor(2.0))


class MultiLabel:
    """Multi-label classification: each image has any number of labels, predicted independently.

    Args:
        class_names: Names of the K labels.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = list(class_names)
        self.metric_names: tuple[str, ...] = ("mAP", "f1", *(f"f1/{name}" for name in self._names))

    def metrics(self) -> nn.ModuleDict:
        """Return mean average precision over labels, and mean F1 at a threshold of 0.5; for training, only F1."""
        count = len(self._names)
        f1 = MultilabelF1Score(count, validate_args=False)  # validation would read the labels in each step
        metrics = MetricCollection({"mAP": MultilabelAveragePrecision(count), "f1": f1}, compute_groups=False)
        evaluated = {f"of_{stage}": metrics.clone(f"{stage}/") for stage in EVALUATED}
        return nn.ModuleDict({"of_train": MetricCollection({"f1": f1}).clone("train/"), **evaluated})

    def per_class(self) -> nn.ModuleDict:
        """Return F1 per label."""
        count = len(self._names)
        return nn.ModuleDict({f"of_{stage}": MultilabelF1Score(count, average="none") for stage in EVALUATED})

    def single(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the labels unchanged."""
        return labels

    def counted(self, labels: Tensor) -> Tensor:
        """Compare the vector's first element with ``NOT_COUNTED``."""
        return labels[:, 0] != NOT_COUNTED

    def for_metrics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return those that count, which synchronizes the device."""
        counted = self.counted(labels)
        return logits[counted], labels[counted].long()

    def scored(self, logits: Tensor) -> Tensor:
        """Return probabilities, since torchmetrics mistakes logits for them if all are between 0 and 1."""
        return logits.float().sigmoid()

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the binary cross-entropy, averaged over labels."""
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the sigmoid."""
        return logits.sigmoid()

    def average(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the logit of the mean probability."""
        # log(2p) - log(2(1 - p)) for the mean p: exact in single precision, even if p rounds to 0 or 1
        return torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other)) - torch.logaddexp(
            F.logsigmoid(-one), F.logsigmoid(-other)
        )
