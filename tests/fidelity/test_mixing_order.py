"""The partner that an image is mixed with, and whether it is erased before or after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.samplers import TrainingSampler
from inceptionnext_lit.data.transforms.erasing import erase
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.seeding import run_seed, seed_generators
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.classification.losses import LossOptions
from inceptionnext_lit.tasks.classification.mixup import Mix


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [6, 32, 45])
def test_no_image_of_repeated_augmentation_is_mixed_with_itself(replicas: int, batch_size: int) -> None:
    for rank in range(replicas):
        sampler = TrainingSampler(1000, replicas * batch_size, seed=0, replicas=replicas, rank=rank, repeats=3)
        drawn = torch.tensor([draw.image for draw in sampler.draws(epoch=0)]).split(batch_size)
        for images in drawn:
            shown = images.double().reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
            torch.manual_seed(0)
            mixed, targets, _ = Mix(mixup=1.0)(shown, torch.arange(len(images)), len(images))
            partner = targets.argsort(dim=1, descending=True)[:, :2]
            pairs = images[partner]
            assert (pairs[:, 0] != pairs[:, 1]).all()
            assert (torch.sort(partner, dim=1).values[:, 0] >= 0).all()
            torch.testing.assert_close(mixed[:, 0, 0, 0], (targets.double() * images).sum(dim=1))


def test_partners_are_mutual_as_in_timm() -> None:
    """An image's partner is mixed with that image: the targets of a batch are a symmetric matrix."""
    torch.manual_seed(0)
    _, targets, _ = Mix(mixup=0.8)(torch.zeros(8, 3, 2, 2), torch.arange(8), 8)
    assert torch.equal(targets, targets.T)
    assert (targets.count_nonzero(dim=1) == 2).all()


class Watched(ClassificationTask):
    """Keep the input of the first step."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.batch = [item.clone() for item in batch]
        self.pending = list(self.trainer.datamodule._left_to_erase)
        self.model.register_forward_pre_hook(lambda module, inputs: setattr(self, "shown", inputs[0].clone()))


@pytest.fixture
def run(make_folder: Callable[..., Path], tmp_path: Path) -> Callable[[str], Watched]:
    def run(order: str) -> Watched:
        task = Watched(
            "inceptionnext_iso_micro",
            data_spec=DataSpec(num_classes=3),
            loss=LossOptions(mix=Mix(mixup=0.8, cutmix=1.0, order=order)),
        )  # type: ignore[arg-type]
        augmentation = Augmentation(scale=None, hflip=0, color_jitter=0, rand_augment_magnitude=None, erasing=1.0)
        root = tmp_path / "data"
        if not root.exists():
            make_folder(root, {"train": 4, "val": 1})
        data = ImageFolderDataModule(
            str(root),
            image_size=28,
            batch_size=12,
            num_workers=0,
            augmentation=augmentation,
            input=InputOptions(crop_pct=1.0),
        )
        Trainer(
            max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, default_root_dir=tmp_path,
        ).fit(task, data)  # fmt: skip
        return task

    return run


def mixed(task: Watched, images: Tensor) -> Tensor:
    seed_generators(run_seed(), "step", 0, 0, 0)
    return task.loss.mix(images, task.batch[1], 3)[0]


def test_erasing_comes_last_or_first(run: Callable[[str], Watched]) -> None:
    """The same rectangles, with the same noise, on the mixed images or on those that are mixed."""
    last = run("before_erasing")
    assert len(last.pending) == 12
    assert all(last.pending)
    expected = mixed(last, last.batch[0])
    erase(expected, last.pending)
    assert torch.equal(last.shown, expected)
    first = run("after_erasing")
    assert first.pending == []
    erased = last.batch[0].clone()
    erase(erased, last.pending)
    assert torch.equal(first.batch[0], erased)
    assert torch.equal(first.shown, mixed(first, erased))
    assert not torch.equal(first.shown, last.shown)
