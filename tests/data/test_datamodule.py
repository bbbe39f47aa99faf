"""The image data module: stages, batches, class mappings and messages."""

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from inceptionnext_lit.data import Augmentation, ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.samplers import Draw
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data.transforms.augmentation import LEVELS
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.preprocessing import NOT_COUNTED
from tests.batches import as_input, finished

pytestmark = [
    pytest.mark.filterwarnings("ignore:All images of the class"),  # the images are of one color each
    pytest.mark.filterwarnings("ignore:data.input.mean is"),  # values that are seen in the result
]

GRAY = {"black": 0, "gray": 128, "white": 255}


def make(root: Path, **counts: int) -> Path:
    """Write uniform images, whose brightness encodes their class."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("L", (12, 10), GRAY.get(name, 60)).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    make(tmp_path / "train", black=4, gray=3, white=3)
    make(tmp_path / "val", black=1, white=2)
    make(tmp_path / "test", gray=3)
    return tmp_path


def build(root: Path | str | None, **options: Any) -> ImageFolderDataModule:
    settings = {"image_size": 8, "batch_size": 2, "num_workers": 0, "augmentation": "none"}
    return ImageFolderDataModule(root if root is None else str(root), **(settings | options))


def test_fit_batches(splits: Path) -> None:
    data = build(splits, batch_size=4, input=InputOptions(mean=[0, 0, 0], std=[1, 1, 1]))
    assert data.classes == ["black", "gray", "white"]
    assert data.num_classes == 3
    data.setup("fit")
    batches = finished(data, data.train_dataloader())
    assert len(batches) == 2  # of 10 images, the last 2 are dropped
    for images, labels in batches:
        assert (images.shape, images.dtype) == ((4, 3, 8, 8), torch.float32)
        assert (labels.shape, labels.dtype) == ((4,), torch.int64)
        torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0, 128 / 255, 1.0])[labels])
    assert [labels.tolist() for _, labels in data.val_dataloader()] == [[0, 2, 2]]


def test_training_is_shuffled_again_each_epoch(splits: Path) -> None:
    data = build(splits, batch_size=10)
    data.setup("fit")
    torch.manual_seed(0)
    loader = data.train_dataloader()
    assert len({tuple(next(iter(loader))[1].tolist()) for _ in range(5)}) == 5


def test_val_alone_and_test_use_the_training_splits_indices(splits: Path) -> None:
    data = build(splits)
    data.setup("validate")
    assert torch.cat([labels for _, labels in data.val_dataloader()]).tolist() == [0, 2, 2]
    data.setup("test")
    assert torch.cat([labels for _, labels in data.test_dataloader()]).tolist() == [1, 1, 1]


def test_class_folders_without_splits_are_split(tmp_path: Path) -> None:
    data = build(make(tmp_path, black=10, white=5), split=SplitRules(val_fraction=0.4))
    data.setup("fit")
    assert Counter(label for _, label, *_ in data.train_set.samples) == {0: 6, 1: 3}
    assert Counter(label for _, label, *_ in data.val_set.samples) == {0: 4, 1: 2}
    alone = build(tmp_path, split=SplitRules(val_fraction=0.4))
    alone.setup("validate")
    assert alone.val_set.samples == data.val_set.samples
    other = build(tmp_path, split=SplitRules(val_fraction=0.4, seed=1))
    other.setup("validate")
    assert other.val_set.samples != data.val_set.samples
    with pytest.raises(UserError, match=r"No test split: .*test was not found.* subcommand validate"):
        data.setup("test")


def test_fixed_class_names(splits: Path) -> None:
    data = build(splits, class_names=["white", "red", "gray", "black"])
    assert data.classes == ["white", "red", "gray", "black"]
    data.setup("validate")
    assert [label for _, label, *_ in data.val_set.samples] == [3, 0, 0]
    with pytest.raises(UserError, match=r"given list of class names\) does not have: gray\. Known are black, white\."):
        build(splits, class_names=["black", "white"]).setup("test")


def test_fixed_class_names_need_no_training_split(tmp_path: Path) -> None:
    make(tmp_path / "val", black=2)
    data = build(tmp_path, class_names=["gray", "black"])
    data.setup("validate")
    assert [label for _, label, *_ in data.val_set.samples] == [1, 1]
    with pytest.raises(UserError, match=r"has neither a train/ folder nor class folders\. Training needs train/"):
        data.setup("fit")
    with pytest.raises(UserError, match=r"has no train/ folder, whose class folders name the classes"):
        build(tmp_path).setup("validate")
    make(tmp_path / "other" / "test", black=2)
    with pytest.raises(UserError, match=r"and no val/ folder\. .*validation needs val/"):
        build(tmp_path / "other", class_names=["black"]).setup("validate")


def test_val_with_a_class_that_train_lacks(splits: Path) -> None:
    make(splits / "val", red=1)
    with pytest.raises(UserError, match=r"val has class folders that the training split .*train does not have: red\."):
        build(splits).setup("fit")


def test_predict_in_natural_order(splits: Path) -> None:
    for name in ("10.png", "9.png"):
        Image.new("L", (4, 4)).save(splits / name)
    data = build(splits / "test", batch_size=2)
    data.setup("predict")
    batches = finished(data, data.predict_dataloader())
    assert [batch.paths for batch in batches] == [
        [str(splits / "test/gray/0.png"), str(splits / "test/gray/1.png")],
        [str(splits / "test/gray/2.png")],
    ]
    assert type(batches[0][1]) is list
    assert (batches[1][0].shape, batches[1][0].dtype) == ((1, 3, 8, 8), torch.float32)
    data = build(splits)
    data.setup("predict")
    assert [os.path.relpath(path, splits) for path in data.predict_set.paths][:2] == ["9.png", "10.png"]


def test_predict_one_image_and_none(splits: Path) -> None:
    one = build(splits / "val/white/1.png")
    one.setup("predict")
    assert one.predict_set.paths == [str(splits / "val/white/1.png")]
    (splits / "empty").mkdir()
    with pytest.raises(UserError, match=r"No images below .*empty\. Name another folder\."):
        build(splits / "empty").setup("predict")
    with pytest.raises(UserError, match=r"nowhere does not exist\. Name a folder of images, an image file"):
        build(splits / "nowhere").setup("predict")


def test_root_is_only_needed_by_setup(tmp_path: Path) -> None:
    data = build(None)
    for ask in (
        lambda: data.classes,
        lambda: data.num_classes,
        lambda: data.setup("fit"),
        lambda: data.setup("predict"),
    ):
        with pytest.raises(
            UserError, match=r"^No images were named\. Give a folder with --data\.root, or --data\.root s"
        ):
            ask()


def test_a_batch_larger_than_the_training_split(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"A batch_size of 11 is more than the 10 training images, .*--data\.batch_size"
    ):
        build(splits, batch_size=11).setup("fit")
    data = build(splits, batch_size=6)
    data.setup("fit")
    assert len(data.train_dataloader()) == 1
    data = build(splits, batch_size=6)
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    with pytest.raises(UserError, match=r"of 6 is more than the 10 training images give each of 2 ranks"):
        data.setup("fit")


def test_preprocessing(splits: Path) -> None:
    assert ImageFolderDataModule().preprocessing == {
        "image_size": 224, "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    own = build(splits, input=InputOptions(mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0], crop_pct=1.0)).preprocessing
    assert own == {
        "image_size": 8, "crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic",
        "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "data.image_size is 0, but must be 1 pixel or more, or a height and a width."),
        ({"batch_size": 0}, "data.batch_size is 0, but must be 1 image or more, or auto."),
        ({"num_workers": -1}, "data.num_workers is -1, but must be 0 or more, or null."),
        ({"input": InputOptions(mean=[0.5])}, "data.input.mean is [0.5], but must be 3 numbers, one per channel."),
        (
            {"input": InputOptions(std=[1, 0, 1])},
            "data.input.std is [1, 0, 1], but must be 3 numbers above 0, one per channel.",
        ),
        ({"input": InputOptions(crop_pct=1.5)}, "data.input.crop_pct is 1.5, but must be above 0 and at most 1."),
        (
            {"class_names": ["a", "a"]},
            "data.class_names is ['a', 'a'], but must be one name per class, each once, and none empty.",
        ),
        (
            {"class_names": ["a", " "]},
            "data.class_names is ['a', ' '], but must be one name per class, each once, and none empty.",
        ),
        (
            {"augmentation": "heavy"},
            "data.augmentation is heavy, but must be one of none, light, medium, strong, or an Augmentation.",
        ),
    ],
)
def test_ranges_are_checked_by_the_constructor(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        ImageFolderDataModule("/nonexistent", **options)
    assert str(caught.value) == message


def test_default_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)))
    assert ImageFolderDataModule().num_workers == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert ImageFolderDataModule().num_workers == 8
    assert ImageFolderDataModule(num_workers=0).num_workers == 0


def test_loader_options(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build(splits, num_workers=2)
    data.setup("fit")
    train, val = data.train_dataloader(), data.val_dataloader()
    assert (train.num_workers, train.persistent_workers) == (2, True)
    assert len(train) * train.batch_size <= len(data.train_set)  # full batches only
    assert (val.num_workers, val.drop_last) == (2, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert data.train_dataloader().pin_memory is False
    assert build(splits, num_workers=0)._loader(data.val_set, list).persistent_workers is False


@pytest.mark.slow
def test_augmentation_is_reproducible_with_a_seed_and_differs_between_workers(tmp_path: Path) -> None:
    make(tmp_path / "train", black=8, gray=8)
    make(tmp_path / "val", black=1)
    data = build(tmp_path, batch_size=8, num_workers=2, augmentation=Augmentation(erasing=1.0))

    def epoch() -> torch.Tensor:
        pl.seed_everything(3, workers=True, verbose=False)
        data.setup("fit")
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                             enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0)  # fmt: skip
        seen: list[torch.Tensor] = []

        class Recorder(BoringModel):
            def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
                seen.append(batch[0])
                return self.layer.weight.sum()

        trainer.fit(Recorder(), data)
        return torch.cat(seen)

    first = epoch()
    assert first.shape == (16, 3, 8, 8)
    torch.testing.assert_close(epoch(), first, rtol=0, atol=0)
    assert len({image.numpy().tobytes() for image in first}) == 16  # erasing draws noise for each image


def test_an_error_in_a_worker_keeps_its_message(splits: Path) -> None:
    broken = splits / "val/black/0.png"
    broken.write_bytes(b"")
    data = build(splits, num_workers=1)
    data.setup("validate")
    with pytest.raises(
        UserError, match=rf"Cannot read the image {broken}: its content is not an image of a known format"
    ):
        list(data.val_dataloader())


@pytest.mark.slow
def test_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    data = build("sample", image_size=28, input=InputOptions(crop_pct=1.0, mean=[0] * 3, std=[1] * 3))
    assert os.listdir(tmp_path) == []  # the constructor is cheap
    assert data.classes[:3] == ["ankle-boot", "bag", "coat"]
    assert data.num_classes == 10
    data.prepare_data()
    data.setup("fit")
    assert Counter(label for _, label, *_ in data.train_set.samples) == dict.fromkeys(range(10), 600)
    assert Counter(label for _, label, *_ in data.val_set.samples) == dict.fromkeys(range(10), 100)
    pixels, label, *_ = data.val_set[0]
    assert label == 0
    stored = torch.tensor(list(Image.open(data.val_set.samples[0][0]).tobytes())).view(28, 28) / 255
    torch.testing.assert_close(as_input(data, pixels), stored.expand(3, 28, 28))
    assert len(os.listdir(tmp_path)) == 1


def test_a_folder_called_sample_is_reached_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "sample", black=2, white=2)
    monkeypatch.chdir(tmp_path)
    assert build("./sample").classes == ["black", "white"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], LEVELS["light"]),
        (["--data.augmentation=strong"], LEVELS["strong"]),
        (["--data.augmentation.erasing=0.1"], Augmentation(erasing=0.1)),
        (
            ['--data.augmentation={"scale": [0.3, 1], "rand_augment_magnitude": null}'],
            Augmentation(scale=(0.3, 1), rand_augment_magnitude=None),
        ),
        (['--data.augmentation={"scale": null, "pad_crop": 2}'], Augmentation(scale=None, pad_crop=2)),
    ],
)
def test_augmentation_by_the_command_line(arguments: list[str], expected: Augmentation) -> None:
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(ImageFolderDataModule, "data")
    assert parser.instantiate(parser.parse_args(arguments)).data.augmentation == expected


def test_an_images_draws_depend_only_on_seed_epoch_index_and_repeat(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    data = build(sample, image_size=28, augmentation=Augmentation(rand_augment_magnitude=9, erasing=0.9))
    data.setup("fit")
    train = data.train_dataloader().dataset
    reference = train[Draw(7, epoch=2)][0]
    torch.manual_seed(99)
    random.seed(99)
    alone = random.random(), torch.rand(1)
    torch.manual_seed(99)
    random.seed(99)
    items = train.__getitems__([Draw(3, 2), Draw(7, 2), Draw(7, 3), Draw(7, 2, 1), Draw(7, 2)])
    images = [item.pixels for item in items]
    assert (random.random(), torch.rand(1)) == alone  # the program's own generators do not change
    assert torch.equal(images[1], reference)
    assert torch.equal(images[4], reference)
    erasures = [item.erasure for item in items]
    assert erasures[1] == erasures[4] != erasures[2]
    assert erasures[1] is not None
    assert not torch.equal(images[2], reference)
    assert not torch.equal(images[3], reference)
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    data.train_dataloader()
    assert not torch.equal(train[Draw(7, epoch=2)][0], reference)


def test_images_that_do_not_count_are_marked(splits: Path) -> None:
    data = build(splits)
    data.setup("validate")
    assert data.val_set[Draw(1)][1] == 2
    assert data.val_set[Draw(1, counts=False)][1] == NOT_COUNTED
    assert data.val_set[1][1] == 2


def test_the_trainer_accumulates_the_global_batch(splits: Path) -> None:
    data = build(splits, batch_size=2, global_batch_size=8)
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("fit")
    assert data.trainer.accumulate_grad_batches == 4
    assert len(data.train_dataloader()) == 4  # 8 of the 10 images: one full step
    refused = build(splits, batch_size=2, global_batch_size=8)
    refused.trainer = pl.Trainer(accelerator="cpu", accumulate_grad_batches=2, logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match=r"accumulate_grad_batches is 2, but 8 images per step .* require 4"):
        refused.setup("fit")
    too_large = build(splits, batch_size=2, global_batch_size=12)
    too_large.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match=r"A step of 12 images is more than the 10 training images"):
        too_large.setup("fit")
