"""The metrics of a classifier, for each split and each set of weights."""

from typing import cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from inceptionnext_lit.tasks.classification.device_metrics import MeanLoss
from inceptionnext_lit.tasks.classification.logit_guard import LogitGuard
from inceptionnext_lit.tasks.classification.targets import EVALUATED, Targets
from inceptionnext_lit.training.callbacks.checkpoints import Mode


class ClassificationMetrics(nn.Module):
    """Metrics and losses under the names of their stages: ``train``, ``val``, ``val_ema``, ``test`` and ``test_ema``.

    Attributes:
        outputs: The outputs that count in an evaluation; the others are ignored. None for all.

    Args:
        targets: The label type, which defines metrics and loss.
        class_names: The class names, for metrics per class.
    """

    def __init__(self, targets: Targets, class_names: list[str]) -> None:
        super().__init__()
        self._targets = targets
        self._names = class_names
        self.metrics = targets.metrics()
        self.per_class = targets.per_class()
        self.losses = nn.ModuleDict({f"of_{stage}": MeanLoss() for stage in ("train", "teacher", *EVALUATED)})
        self._unlogged: set[str] = set()
        self._guard = LogitGuard()
        self.outputs: list[int] | None = None

    def directions(self, *stages: str) -> dict[str, Mode]:
        """Return whether the ``max`` or ``min`` of each metric is the best, by torchmetrics' ``higher_is_better``.

        Args:
            stages: The stages; the metric that selects the best epoch comes first in each.
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

        A stage's metrics are logged in its first batch, and Lightning computes them after the last; logging them in
        each batch costs a millisecond per step.
        """
        self._unlogged.update(stages)
        names = [*stages, "teacher"] if "train" in stages else stages
        for key in (f"of_{name}" for name in names):  # a resumed run may have restored metrics that it did not log
            for metrics in (self.losses, self.metrics, self.per_class):
                if key in metrics:
                    cast(Metric, metrics[key]).reset()
        self._guard.begin(*stages)

    def trained(
        self,
        task: LightningModule,
        loss: Tensor,
        logits: Tensor,
        labels: Tensor,
        *,
        with_metrics: bool,
        distilled: Tensor | None = None,
    ) -> None:
        """Add a training batch.

        Args:
            task: The task that logs.
            loss: The batch's mean loss.
            logits: Shape (N, K).
            labels: Class indices (N,), or multi-hot vectors (N, K).
            with_metrics: Whether to compute metrics, for which images must not be mixed.
            distilled: The batch's mean distillation loss, if there is one.
        """
        if distilled is not None:
            cast(MeanLoss, self.losses["of_teacher"]).update(distilled.detach() * len(labels), len(labels))
        cast(MeanLoss, self.losses["of_train"]).update(loss * len(labels), len(labels))
        if with_metrics:
            self._score("train", logits.detach(), labels.long())  # multi-hot labels are floats, for the loss
        self._log(task, "train", with_metrics=with_metrics, distills=distilled is not None)

    def evaluated(self, task: LightningModule, stage: str, logits: Tensor, labels: Tensor) -> None:
        """Add an evaluation batch to the metrics of a stage, without images that do not count.

        Args:
            task: The task that logs.
            stage: Prefix of the metrics.
            logits: Shape (N, K).
            labels: Class indices (N,), or multi-hot vectors (N, K): all labels of an image, or those of which one is
                enough if the targets have a single label.
        """
        logits, labels = logits.float(), self._targets.single(logits, labels)
        counted = self._targets.counted(labels)
        self._guard.note(stage, logits, counted)
        if self.outputs is not None:
            restricted = torch.full_like(logits, -torch.inf)
            restricted[:, self.outputs] = logits[:, self.outputs]
            logits = restricted
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

    def _log(self, task: LightningModule, stage: str, *, with_metrics: bool, distills: bool = False) -> None:
        if stage not in self._unlogged:
            return
        self._unlogged.remove(stage)
        metrics: dict[str, Metric] = {f"{stage}/loss": cast(Metric, self.losses[f"of_{stage}"])}
        if distills:
            metrics["train/distill_loss"] = cast(Metric, self.losses["of_teacher"])
        if with_metrics:
            metrics |= cast(MetricCollection, self.metrics[f"of_{stage}"]).items()
        task.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)

    def finish(self, task: LightningModule, stage: str) -> None:
        """End an evaluation: log the metrics per class, which torchmetrics returns as one tensor.

        Args:
            task: The task that logs.
            stage: ``val`` or ``test``, including the averaged weights.

        Raises:
            SharedError: If logits are NaN or infinite; the evaluation's metrics are then not logged.
        """
        self._guard.check(task, stage)
        for name in (stage, f"{stage}_ema"):
            key = f"of_{name}"
            if key not in self.per_class or not (metric := cast(Metric, self.per_class[key])).update_called:
                continue
            values = zip(self._names, metric.compute(), strict=True)
            task.log_dict({f"{name}/f1/{label}": value for label, value in values})
            metric.reset()
