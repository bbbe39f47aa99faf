"""Training images whose size grows with the epochs."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.progressive import ProgressiveSize, check_sizes, plan_sizes
from inceptionnext_lit.errors import UserError

FOUR = check_sizes([128, 160, 192, 224])


def trainer(**settings: Any) -> Any:
    made = {"max_epochs": 4, "world_size": 1, "global_rank": 0, "accumulate_grad_batches": 1, "overfit_batches": 0}
    made |= {"current_epoch": 0, "limit_train_batches": 1.0, "val_check_interval": 1.0, "log_dir": None}
    return SimpleNamespace(**(made | settings))


@pytest.mark.parametrize(
    ("epochs", "sides"),
    [
        (4, [128, 160, 192, 224]),
        (6, [128, 128, 160, 192, 192, 224]),
        (9, [128] * 3 + [160] * 2 + [192] * 2 + [224] * 2),
    ],
)
def test_each_size_has_an_equal_share_of_the_epochs(epochs: int, sides: list[int]) -> None:
    progressive = ProgressiveSize(FOUR, epochs)
    assert [progressive.size(epoch)[0] for epoch in range(epochs)] == sides
    assert progressive.size(epochs + 5) == (224, 224)
    stages = progressive.stages()
    assert [size[0] for size, share in stages for _ in share] == sides
    assert [epoch for _, share in stages for epoch in share] == list(range(epochs))


def test_batches_are_joined_up_to_the_pixels_of_one_batch() -> None:
    progressive = ProgressiveSize(FOUR, 4)
    assert [progressive.batches_at_once(epoch, 12) for epoch in range(4)] == [3, 1, 1, 1]  # 3.06, 1.96, 1.36, 1
    assert [progressive.batches_at_once(epoch, 5) for epoch in range(4)] == [1, 1, 1, 1]
    small = ProgressiveSize(check_sizes([56, 112, 224]), 3)
    assert [small.batches_at_once(epoch, 8) for epoch in range(3)] == [8, 4, 1]


def test_the_cost_of_the_remaining_epochs() -> None:
    progressive = ProgressiveSize(FOUR, 4)
    pixels = [side**2 for side in (128, 160, 192, 224)]
    assert progressive.cost_of_rest(0) == pytest.approx(sum(pixels) / 4 / pixels[0])
    assert progressive.cost_of_rest(2) == pytest.approx(sum(pixels[2:]) / 2 / pixels[2])
    assert progressive.cost_of_rest(3) == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], r"^data\.progressive_size is \[\], but must be one or more sizes in pixels"),
        ([0, 28], "but must be one or more sizes in pixels"),
        ([[28, 28, 3]], "but must be one or more sizes in pixels"),
        ([28, 20], "but must be sizes from the smallest to the largest"),
        ([28, 28], "each once"),
    ],
)
def test_wrong_sizes_are_refused(sizes: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageFolderDataModule("sample", progressive_size=sizes)


def test_sizes_need_a_number_of_epochs() -> None:
    with pytest.raises(UserError, match=r"divides the run's epochs among the sizes; set trainer\.max_epochs"):
        plan_sizes(FOUR, trainer(max_epochs=-1))
    with pytest.raises(UserError, match=r"has 4 sizes, but trainer\.max_epochs is 3; give at most one size per epoch"):
        plan_sizes(FOUR, trainer(max_epochs=3))


def loaded(data: ImageFolderDataModule, epoch: int) -> list[tuple[int, ...]]:
    """Return the shapes of an epoch's batches."""
    data.trainer.current_epoch = epoch
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [tuple(images.pixels.shape) for images, _ in loader]


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(scale=None, pad_crop=4)])
def test_batches_of_each_stage(
    make_folder: Callable[..., Path], tmp_path: Path, augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 images in two steps; 14 pixels have a quarter of the area of 28, so four batches of three fit into one."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    root = make_folder(tmp_path / "images", {"train": 8, "val": 2})
    data = ImageFolderDataModule(
        str(root), 28, batch_size=3, global_batch_size=12, num_workers=0, progressive_size=[14, [14, 28], 28],
        augmentation=augmentation,
    )  # fmt: skip
    data.trainer = trainer(max_epochs=3)
    data.setup("fit")
    assert data.step_size == 12
    for epoch, (shape, accumulated) in enumerate([((12, 3, 14, 14), 1), ((6, 3, 14, 28), 2), ((3, 3, 28, 28), 4)]):
        assert loaded(data, epoch) == [shape] * (24 // shape[0])
        assert data.trainer.accumulate_grad_batches == accumulated
        assert (data.step_size, data.accumulated, data.training_batch_size(epoch)) == (12, 4, shape[0])
    assert data.describe("fit")[1] == (
        "Sizes:      training images of 14 px in epoch 1 (batches of 12), 14 × 28 px in epoch 2 (batches of 6), "
        "28 px in epoch 3 (batches of 3)"
    )
    assert {tuple(images.pixels.shape[2:]) for images, _ in data.val_dataloader()} == {(28, 28)}


def test_batches_are_not_joined_where_batches_are_counted(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"train": 8, "val": 2})
    options = {"batch_size": 3, "global_batch_size": 12, "num_workers": 0, "progressive_size": [14, 28]}
    for limits in ({"limit_train_batches": 4}, {"val_check_interval": 4}):
        data = ImageFolderDataModule(str(root), 28, **options)
        data.trainer = trainer(**limits)
        data.setup("fit")
        assert data.training_batch_size(0) == 3


def test_a_second_trainer_accumulates_too(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"train": 8, "val": 2})
    data = ImageFolderDataModule(str(root), 28, batch_size=3, global_batch_size=12, num_workers=0)
    for made in (trainer(), trainer()):
        data.trainer = made
        data.setup("fit")
        assert len(data.train_dataloader()) == 8
        assert made.accumulate_grad_batches == 4
