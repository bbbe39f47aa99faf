"""The figures of a classifier, one set for each split and each set of weights."""

from torch import nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

EVALUATED = ("val", "val_ema", "test", "test_ema")


def accuracies(num_classes: int) -> nn.ModuleDict:
    """Accuracies that count images and classes, under ``of_train``, ``of_val``, ``of_val_ema`` and so on.

    A ``ModuleDict`` has methods of its own named train and eval, hence the prefix in the keys.
    """
    metrics = MetricCollection(
        {
            "acc1": MulticlassAccuracy(num_classes, average="micro"),
            "acc5": MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes)),
            "macro_acc": MulticlassAccuracy(num_classes, average="macro"),
        },
        # Groups merge metrics whose counts are equal after one batch: acc5 and macro_acc where all were right.
        compute_groups=False,
    )
    return nn.ModuleDict({f"of_{stage}": metrics.clone(f"{stage}/") for stage in ("train", *EVALUATED)})


def mean_losses() -> nn.ModuleDict:
    """Mean losses over a whole split, whatever the sizes of its batches."""
    return nn.ModuleDict({stage: MeanMetric() for stage in EVALUATED})
