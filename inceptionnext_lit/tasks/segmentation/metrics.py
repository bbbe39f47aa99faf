"""Metrics of segmentation over a whole split: mIoU and others from one confusion matrix, and the boundary F1."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.tasks.classification.device_metrics import MeanLoss, exact_dtype
from inceptionnext_lit.tasks.classification.logit_guard import LogitGuard
from inceptionnext_lit.tasks.segmentation.inference import Best
from inceptionnext_lit.training.callbacks.checkpoints import Mode

EVALUATED = ("val", "val_ema", "test", "test_ema")
_TOLERANCE = 0.0075  # of the image's diagonal, for boundaries


class ConfusionMatrix(Metric):
    """Pixels by true class (rows) and predicted class (columns), summed over all images and ranks.

    Args:
        num_classes: Number of classes K.
    """

    full_state_update = False
    higher_is_better = True
    matrix: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, classes: Tensor, masks: Tensor) -> None:
        """Add images.

        Args:
            classes: Predicted classes, integers of any shape.
            masks: True classes of the same shape, 255 for ignored pixels.
        """
        counted = masks != IGNORED
        pairs = masks[counted].long() * self.num_classes + classes[counted].long()
        self.matrix += torch.bincount(pairs, minlength=self.num_classes**2).view_as(self.matrix)

    def compute(self) -> Tensor:
        """Return the matrix, int64 (K, K)."""
        return self.matrix


class BoundaryF1(Metric):
    """Mean over images of the F1 score of the boundary of class 1, for two classes.

    A boundary pixel is right if the other mask has one within 0.75% of the image's diagonal, as in the DAVIS benchmark.
    Images without the class in both masks are left out.
    """

    full_state_update = False
    higher_is_better = True
    total: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, classes: Tensor, masks: Tensor) -> None:
        """Add an image.

        Args:
            classes: Predicted classes (H, W).
            masks: True classes (H, W), 255 for ignored pixels, which have no class in both masks.
        """
        counted = masks != IGNORED
        found, true = (_boundary((of == 1) & counted) for of in (classes, masks))
        height, width = masks.shape
        near = _disc(max(1, round(_TOLERANCE * (height**2 + width**2) ** 0.5)), masks.device)
        precision, recall = _share_near(found, true, near), _share_near(true, found, near)
        exists = found.any() | true.any()
        score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        self.total += (score * exists).to(self.total.dtype)
        self.images += exists.long()

    def compute(self) -> Tensor:
        """Return the mean; NaN without images."""
        return (self.total / self.images).float()


class SegmentationMetrics(nn.Module):
    """Metrics and losses of the stages ``train``, ``val``, ``val_ema``, ``test`` and ``test_ema``.

    The names are MMSegmentation's: ``mIoU``, ``mAcc`` and ``aAcc``, and ``IoU/CLASS``; two classes also have
    ``boundary_f1``. All are fractions.

    Args:
        class_names: The class names.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self._names = list(class_names)
        count = len(self._names)
        self.losses = nn.ModuleDict({f"of_{stage}": MeanLoss() for stage in ("train", *EVALUATED)})
        self.matrices = nn.ModuleDict({f"of_{stage}": ConfusionMatrix(count) for stage in EVALUATED})
        self._guard = LogitGuard()
        self.boundaries = nn.ModuleDict({f"of_{stage}": BoundaryF1() for stage in EVALUATED if count == 2})

    def directions(self, *stages: str) -> dict[str, Mode]:
        """Return whether the ``max`` or ``min`` of each metric is the best.

        Args:
            stages: The stages; ``mIoU`` comes first in each.
        """
        best: dict[str, Mode] = {}
        for stage in stages:
            names = ["mIoU", "mAcc", "aAcc", *(["boundary_f1"] if self.boundaries else [])]
            best.update({f"{stage}/{name}": "max" for name in names})
            best[f"{stage}/loss"] = "min"
        return best

    def begin(self, *stages: str) -> None:
        """Begin an epoch of some stages."""
        for key in (f"of_{stage}" for stage in stages):
            for metrics in (self.losses, self.matrices, self.boundaries):
                if key in metrics:
                    cast(Metric, metrics[key]).reset()
        self._guard.begin(*stages)

    def use_exact_sums(self, device: torch.device) -> None:
        """Sum losses in double precision, in which sums of single-precision numbers do not depend on the order.

        Args:
            device: The device of the sums.
        """
        for metric in (*self.losses.values(), *self.boundaries.values()):
            cast(Metric, metric).set_dtype(exact_dtype(device))

    def trained(self, task: LightningModule, loss: Tensor, images: int) -> None:
        """Add a training batch.

        Args:
            task: The task that logs.
            loss: The batch's mean loss.
            images: Its number of images.
        """
        metric = cast(MeanLoss, self.losses["of_train"])
        metric.update(loss * images, images)
        task.log("train/loss", metric, on_step=False, on_epoch=True, batch_size=1)

    def evaluated(self, stage: str, found: Best, masks: Tensor) -> None:
        """Add an evaluated image.

        Args:
            stage: Prefix of the metrics.
            found: The prediction for it; without probabilities of the true classes, it does not count in the loss.
            masks: True classes (H, W), 255 for ignored pixels.
        """
        key, certainty = f"of_{stage}", found.probabilities.sum().view(1, 1)
        self._guard.note(stage, certainty, torch.ones(1, dtype=torch.bool, device=masks.device))
        if found.of_true is not None:
            counted = masks != IGNORED
            losses = -found.of_true.clamp(min=torch.finfo(torch.float32).tiny).log()
            # an image's sum in single precision: that of those in double precision is exact, in any order of the ranks
            cast(MeanLoss, self.losses[key]).update(losses[counted].double().sum().float(), counted.sum())
        cast(Metric, self.matrices[key]).update(found.classes, masks)
        if key in self.boundaries:
            cast(Metric, self.boundaries[key]).update(found.classes, masks)

    def finish(self, task: LightningModule, split: str) -> None:
        """End an evaluation: log its metrics.

        Args:
            task: The task that logs.
            split: ``val`` or ``test``, including the averaged weights.

        Raises:
            SharedError: If logits are NaN or infinite; the metrics are then not logged.
        """
        self._guard.check(task, split)
        stages = (split, f"{split}_ema")
        for stage in stages:
            key = f"of_{stage}"
            matrix = cast(Metric, self.matrices[key])
            if not matrix.update_called:
                continue
            summary = summarize(matrix.compute())
            values: dict[str, Any] = {f"{stage}/{name}": summary[name] for name in ("mIoU", "mAcc", "aAcc")}
            values |= {f"{stage}/IoU/{name}": one for name, one in zip(self._names, summary["IoU"], strict=True)}
            if key in self.boundaries:
                values[f"{stage}/boundary_f1"] = cast(Metric, self.boundaries[key]).compute()
            values[f"{stage}/loss"] = cast(Metric, self.losses[key]).compute()
            task.log_dict(
                {name: torch.as_tensor(value).to(exact_dtype(matrix.device)) for name, value in values.items()}
            )
        self.begin(*stages)


def summarize(matrix: Tensor) -> dict[str, Tensor]:
    """Compute MMSegmentation's metrics from a confusion matrix, as fractions in double precision.

    Args:
        matrix: Pixels by true and predicted class, (K, K).

    Returns:
        ``IoU`` and ``Acc`` per class (K,), NaN for a class without pixels; ``mIoU`` and ``mAcc``, their means over the
        other classes; ``aAcc``, the share of right pixels.
    """
    matrix = matrix.double()
    right, true, found = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    iou, accuracy = right / (true + found - right), right / true
    return {
        "IoU": iou,
        "Acc": accuracy,
        "mIoU": iou.nanmean(),
        "mAcc": accuracy.nanmean(),
        "aAcc": right.sum() / true.sum(),
    }


def _boundary(inside: Tensor) -> Tensor:
    """Return the pixels of a region (H, W) that have a neighbor outside it, not counting the image's border."""
    outside = F.pad((~inside).float()[None], (1, 1, 1, 1), mode="constant", value=0.0)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], device=inside.device)
    return inside & (F.conv2d(outside[None], kernel[None, None])[0, 0] > 0)


def _disc(radius: int, device: torch.device) -> Tensor:
    steps = torch.arange(-radius, radius + 1, device=device)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).float()


def _share_near(of: Tensor, to: Tensor, disc: Tensor) -> Tensor:
    """Return the share of some pixels (H, W) that have one of the others within a disc; 1 if both have none."""
    near = F.conv2d(to.float()[None, None], disc[None, None], padding=disc.shape[-1] // 2)[0, 0] > 0.5
    count = of.sum()
    return torch.where(count > 0, (of & near).sum() / count.clamp(min=1), (~to.any()).float())
