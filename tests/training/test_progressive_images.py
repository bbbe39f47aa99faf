"""Runs whose training images grow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
from lightning.pytorch import Callback, LightningModule, Trainer

from inceptionnext_lit.data.progressive import check_sizes
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.callbacks.progressive import check_model
from tests.training.test_resume import train


class Shapes(Callback):
    """Record the shapes of the training and validation batches, and the loaders."""

    def __init__(self) -> None:
        self.train: list[tuple[int, int]] = []
        self.val: set[int] = set()
        self.loaders: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.train.append((len(batch[0]), batch[0].shape[-1]))
        loader = id(trainer.train_dataloader)
        self.loaders += [loader] if loader not in self.loaders else []

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *args: int) -> None:
        self.val.add(batch[0].shape[-1])


def test_images_and_batches_of_a_run(
    make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12 images, two steps of 6 an epoch; at 12 pixels the two batches of 3 become one."""
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    seen = Shapes()
    _, trainer = train(root, tmp_path, seen, max_epochs=4, data={"progressive_size": [12, 24], "global_batch_size": 6})
    assert seen.train == [(6, 12)] * 4 + [(3, 24)] * 8
    assert seen.val == {28}
    assert len(seen.loaders) == 2
    assert trainer.global_step == trainer.estimated_stepping_batches == 8
    assert trainer.reload_dataloaders_every_n_epochs == 0


def test_position_embeddings_do_not_take_other_sizes() -> None:
    model = timm.create_model("deit_tiny_patch16_224", depth=1)
    check_model(model, 3, (224, 224), check_sizes([224]))
    with pytest.raises(
        UserError, match=r"cannot be trained on images of 160 px \(data\.progressive_size\): .*160.*only take 224 px\.$"
    ):
        check_model(model, 3, (224, 224), check_sizes([160, 224]))
    assert next(model.parameters()).device.type == "cpu"
