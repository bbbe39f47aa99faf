"""The metrics of a classifier: one set for each split and each set of weights."""

from typing import cast

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from inceptionnext_lit.tasks.classification.device_metrics import MeanLoss
from inceptionnext_lit.tasks.classification.logit_guard import LogitWatch
from inceptionnext_lit.tasks.classification.targets import EVALUATED, Targets
from inceptionnext_lit.training.callbacks.checkpoints import Mode


class ClassificationMetrics(nn.Module):
    """Metrics and losses under the names of their stages: ``train``, ``val``, ``val_ema``, ``test`` and ``test_ema``.

    Args:
        targets: Which metrics and which loss.
        class_names: The classes' names, for metrics of each class.
    """

    def __init__(self, targets: Targets, class_names: list[str]) -> None:
        super().__init__()
        self._targets = targets
        self._names = class_names
        self.metrics = targets.metrics()
        self.per_class = targets.per_class()
        self.losses = nn.ModuleDict({f"of_{stage}": MeanLoss() for stage in ("train", *EVALUATED)})
        self._unlogged: set[str] = set()
        self._watch = LogitWatch()

    def directions(self, *stages: str) -> dict[str, Mode]:
        """Whether the largest or the smallest value of each metric is the best, by torchmetrics' ``higher_is_better``.

        Args:
            stages: Of which stages; the metric by which the best epoch is chosen comes first in each.
        """
        metrics: dict[str, Metric] = {}
        for stage in stages:
            of_all = dict(cast(MetricCollection, self.metrics[f"of_{stage}"]).items())
            for name in (f"{stage}/{metric}" for metric in self._targets.metric_names):
                metrics[name] = of_all[name] if name in of_all else cast(Metric, self.per_class[f"of_{stage}"])
            metrics[f"{stage}/loss"] = cast(Metric, self.losses[f"of_{stage}"])
        return {name: "max" if metric.higher_is_better else "min" for name, metric in metrics.items()}

    def begin(self, *stages: str) -> None:
        """Begin an epoch of some stages.

        Lightning is told of a stage's metrics in its first batch and computes them after the last; to be told in each
        costs a millisecond a step.
        """
        self._unlogged.update(stages)
        for key in (f"of_{stage}" for stage in stages):  # a continued run may have added to what it did not log
            for metrics in (self.losses, self.metrics, self.per_class):
                if key in metrics:
                    cast(Metric, metrics[key]).reset()
        self._watch.begin(*stages)

    def trained(
        self, task: LightningModule, loss: Tensor, logits: Tensor, labels: Tensor, *, with_metrics: bool
    ) -> None:
        """Add a training batch.

        Args:
            task: Whose metrics they are.
            loss: Its mean loss.
            logits: Of shape (N, K).
            labels: Class indices (N,), or vectors (N, K) of zeros and ones.
            with_metrics: Whether the labels are those of the images as the model has got them.
        """
        cast(MeanLoss, self.losses["of_train"]).update(loss * len(labels), len(labels))
        if with_metrics:
            self._score("train", logits.detach(), labels.long())  # several labels are floats, as the loss takes them
        self._log(task, "train", with_metrics=with_metrics)

    def evaluated(self, task: LightningModule, stage: str, logits: Tensor, labels: Tensor) -> None:
        """Add an evaluation's batch to the metrics of a stage; images that do not count are left out.

        Args:
            task: Whose metrics they are.
            stage: Under which name.
            logits: Of shape (N, K).
            labels: Class indices (N,), or vectors (N, K).
        """
        logits, counted = logits.float(), self._targets.counted(labels)
        self._watch.note(stage, logits, counted)
        losses = self._targets.losses(logits, labels)
        cast(MeanLoss, self.losses[f"of_{stage}"]).update(losses * counted, counted.sum())
        self._score(stage, *self._targets.for_metrics(logits, labels))
        self._log(task, stage, with_metrics=True)

    def _score(self, stage: str, logits: Tensor, labels: Tensor) -> None:
        if not len(labels):
            return
        scores = self._targets.scored(logits)
        cast(MetricCollection, self.metrics[f"of_{stage}"]).update(scores, labels)
        if f"of_{stage}" in self.per_class:
            cast(Metric, self.per_class[f"of_{stage}"]).update(scores, labels)

    def _log(self, task: LightningModule, stage: str, *, with_metrics: bool) -> None:
        if stage not in self._unlogged:
            return
        self._unlogged.remove(stage)
        metrics: dict[str, Metric] = {f"{stage}/loss": cast(Metric, self.losses[f"of_{stage}"])}
        if with_metrics:
            metrics |= cast(MetricCollection, self.metrics[f"of_{stage}"]).items()
        task.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)

    def finish(self, task: LightningModule, stage: str) -> None:
        """End an evaluation: log the metrics of each class, which torchmetrics has as one tensor.

        Args:
            task: Whose metrics they are.
            stage: ``val`` or ``test``, also for the averaged weights.

        Raises:
            SharedError: If an image's logits are not finite; nothing of the evaluation is then logged.
        """
        self._watch.check(task, stage)
        for name in (stage, f"{stage}_ema"):
            key = f"of_{name}"
            if key not in self.per_class or not (metric := cast(Metric, self.per_class[key])).update_called:
                continue
            values = zip(self._names, metric.compute(), strict=True)
            task.log_dict({f"{name}/f1/{label}": value for label, value in values})
            metric.reset()
