"""The figures of a classifier: one set for each split and each set of weights."""

from typing import cast

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from inceptionnext_lit.tasks.kinds import EVALUATED, Kind


class Figures(nn.Module):
    """Metrics and losses under the names of their stages: ``train``, ``val``, ``val_ema``, ``test`` and ``test_ema``.

    Args:
        kind: Which metrics and which loss.
        class_names: The classes' names, for figures of each class.
    """

    def __init__(self, kind: Kind, class_names: list[str]) -> None:
        super().__init__()
        self._kind = kind
        self._names = class_names
        self.metrics = kind.metrics()
        self.per_class = kind.per_class()
        self.losses = nn.ModuleDict({stage: MeanMetric() for stage in EVALUATED})

    def count(self, task: LightningModule, stage: str, logits: Tensor, labels: Tensor) -> None:
        """Add a batch to the metrics of a stage, and log them.

        Args:
            task: Whose figures they are.
            stage: Under which name.
            logits: Of shape (N, K).
            labels: Class indices (N,), or vectors (N, K) of zeros and ones.
        """
        metrics = cast(MetricCollection, self.metrics[f"of_{stage}"])
        if len(labels):
            # several labels are a vector in floating point, as the loss takes it
            metrics.update(logits.detach(), labels.long())
            if f"of_{stage}" in self.per_class:
                cast(Metric, self.per_class[f"of_{stage}"]).update(logits.detach(), labels.long())
        task.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(labels))

    def evaluate(self, task: LightningModule, stage: str, logits: Tensor, labels: Tensor) -> None:
        """Add an evaluation's batch to loss and metrics of a stage; images that do not count are left out.

        Args:
            task: Whose figures they are.
            stage: Under which name.
            logits: Of shape (N, K).
            labels: Class indices (N,), or vectors (N, K).
        """
        counted = self._kind.counted(labels)
        logits, labels = logits[counted].float(), labels[counted]
        loss = cast(MeanMetric, self.losses[stage])
        loss.update(self._kind.losses(logits, labels))
        task.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(counted))
        self.count(task, stage, logits, labels)

    def log_classes(self, task: LightningModule, stage: str) -> None:
        """Log the figures of each class, which torchmetrics has as one tensor, under the classes' names."""
        for name in (stage, f"{stage}_ema"):
            key = f"of_{name}"
            if key not in self.per_class or not (metric := cast(Metric, self.per_class[key])).update_called:
                continue
            figures = zip(self._names, metric.compute(), strict=True)
            task.log_dict({f"{name}/f1/{label}": value for label, value in figures})
            metric.reset()
