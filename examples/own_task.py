"""A custom task in one file: a class for each pixel, on generated shapes.

Usage: python cli.py fit --model examples.own_task.DenseTask --data examples.own_task.Shapes --run_name shapes
"""

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassJaccardIndex

import inceptionnext_lit  # noqa: F401  (registers the family with timm)
from inceptionnext_lit.data import BaseDataModule
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule

CLASSES, IGNORED = 3, 255  # background, squares and discs; ignored pixels


class Drawings(Dataset[tuple[Tensor, Tensor]]):
    """Noisy images (3, S, S) of squares and discs, and masks (S, S) of their classes."""

    def __init__(self, count: int, size: int, *, flips: bool) -> None:
        self.count, self.size, self.flips = count, size, flips

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        x, y, radius = (torch.rand(3, generator=generator) * torch.tensor([0.6, 0.6, 0.15]) + 0.15) * self.size
        rows, columns = torch.meshgrid(torch.arange(self.size), torch.arange(self.size), indexing="ij")
        shape = index % 2
        across, down = (columns - x).abs(), (rows - y).abs()
        inside = (across.maximum(down) if shape == 0 else across.hypot(down)) < radius
        image = torch.randn(3, self.size, self.size, generator=generator) + inside
        mask = inside * (shape + 1)
        if self.flips and torch.rand(()) < 0.5:  # the data module seeds each sample of each epoch
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


class Shapes(BaseDataModule):
    """Drawings for training and validation."""

    def __init__(self, images: int = 256, size: int = 32, batch_size: int = 16, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers=num_workers)
        self.train_set, self.val_set = Drawings(images, size, flips=True), Drawings(images // 4, size, flips=False)

    def uncounted(self, sample: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the sample with a mask that is ignored."""
        return sample[0], torch.full_like(sample[1], IGNORED)


class DenseTask(BaseTask):
    """A linear classifier of each patch's features, resized to pixels."""

    def __init__(
        self,
        name: str = "inceptionnext_iso_micro",
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        drop_path: float = 0.1,
        ema_decay: float | None = 0.9,
        optimizer: OptimizerOptions | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        features = timm.create_model(name, num_classes=0, global_pool="", drop_path_rate=drop_path)
        model = nn.Sequential(features, nn.Conv2d(features.num_features, CLASSES, 1))
        super().__init__(model, ema_decay=ema_decay, optimizer=optimizer, schedule=schedule)
        self.loss = MeanMetric()
        stages = list(self.evaluated_models("val"))  # of the trained and the averaged weights
        iou = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORED)
        self.ious = nn.ModuleDict({stage: iou.clone() for stage in stages})
        self.directions = {f"{stage}/iou": "max" for stage in stages}

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        return F.interpolate(model(images), images.shape[-2:], mode="bilinear")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch: images (N, 3, S, S) and masks (N, S, S)."""
        loss = F.cross_entropy(self._logits(self.model, batch[0]), batch[1], ignore_index=IGNORED)
        self.loss.update(loss.detach())
        self.log("train/loss", self.loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the metrics of the trained and the averaged weights."""
        for stage, model in self.evaluated_models("val").items():
            self.ious[stage].update(self._logits(model, batch[0]), batch[1])
            self.log(f"{stage}/iou", self.ious[stage], on_step=False, on_epoch=True)
