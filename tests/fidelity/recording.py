"""Keep what a validation on the command line computes."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Record(Callback):
    """Keep the model's input and the logits of a validation."""

    inputs: list[Tensor]
    logits: list[Tensor]
    paths: list[str]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Record.inputs, Record.logits = [], []
        Record.paths = list(trainer.datamodule.val_set.samples.paths)  # type: ignore[attr-defined]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        Record.inputs.append(batch[0].clone())
        with torch.inference_mode():
            Record.logits.append(pl_module(batch[0]))
