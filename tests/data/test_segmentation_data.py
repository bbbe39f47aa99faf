"""The data module for segmentation: batches on any number of ranks, resumption, splits and messages."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from torch import Tensor, nn

from inceptionnext_lit.data import MaskOptions, SegmentationAugmentation, SegmentationDataModule
from inceptionnext_lit.data.decode.bad_images import BadImageOptions
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.scene_checks import auto_crop
from inceptionnext_lit.data.scenes import PaddedImages, Scenes, UnlabeledScenes
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.training.callbacks.settings import flatten
from tests.scenes import COLORS, NAMES, scene, write_classes, write_coco, write_image, write_pairs, write_palette
from tests.training.test_ranks import make_trainer


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def hundred_and_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    write_pairs(root, counts={"train": 101, "val": 101}, height=16, width=20, ignored=True)
    return root


def build(root: Path | str | list[str] | None, **options: Any) -> SegmentationDataModule:
    settings = {"crop_size": 16, "batch_size": 4, "num_workers": 0}
    return SegmentationDataModule(str(root) if isinstance(root, Path) else root, **(settings | options))


def on_rank(root: Path, rank: int, ranks: int, **options: Any) -> SegmentationDataModule:
    data = build(root, **options)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=ranks, global_rank=rank, accumulate_grad_batches=1, current_epoch=0, overfit_batches=0,
        precision_plugin=Precision(), training=False, is_global_zero=rank == 0, limit_train_batches=1.0,
        val_check_interval=1.0, log_dir=None,
    )  # fmt: skip
    return data


def finished(data: SegmentationDataModule, loader: Any) -> list[Any]:
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def confusion(batches: list[Scenes]) -> tuple[Tensor, list[list[str]]]:
    """Pixels per class, counted from the masks and the images, and the files that count, batch by batch."""
    total, files = torch.zeros(3, dtype=torch.int64), []
    for batch in batches:
        for mask in batch.masks:
            total += mask[mask != 255].bincount(minlength=3)
        files.append([path for path, mask in zip(batch.paths, batch.masks, strict=True) if (mask != 255).any()])
    return total, [names for names in files if names]


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_evaluation_is_the_same_on_any_number_of_ranks(hundred_and_one: Path, ranks: int) -> None:
    def evaluated(rank: int, ranks: int) -> list[Scenes]:
        data = on_rank(hundred_and_one, rank, ranks, scale=[40, 32])
        data.setup("validate")
        return finished(data, data.val_dataloader())

    alone, files = confusion(single := evaluated(0, 1))
    parts = [evaluated(rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1  # equally many batches
    counted = [confusion(part) for part in parts]
    assert torch.equal(sum(total for total, _ in counted), alone)  # type: ignore[arg-type]
    assert sorted(names for _, of_rank in counted for names in of_rank) == sorted(files)
    assert sum(map(len, files)) == 101
    first = single[0].images[1], single[0].masks[1]
    other = next(part for part in parts if single[0].paths[1] in part[0].paths)[0]
    assert torch.equal(first[0], other.images[1])
    assert torch.equal(first[1], other.masks[1])
    assert (first[0].shape, first[1].shape, first[1].dtype) == ((3, 32, 40), (16, 20), torch.uint8)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_training_steps_have_the_same_crops_on_any_number_of_ranks(hundred_and_one: Path, ranks: int) -> None:
    def steps(rank: int, ranks: int) -> list[tuple[Tensor, Tensor]]:
        seed_everything(5)
        options = {"batch_size": 12 // ranks, "global_batch_size": 12, "augmentation": "strong"}
        data = on_rank(hundred_and_one, rank, ranks, **options)
        data.setup("fit")
        return finished(data, islice(data.train_dataloader(), 3))

    alone = steps(0, 1)
    parts = [steps(rank, ranks) for rank in range(ranks)]
    for step, (images, masks) in enumerate(alone):
        assert (images.shape, masks.shape, masks.dtype) == ((12, 3, 16, 16), (12, 16, 16), torch.int64)
        for rank in range(ranks):
            assert torch.equal(images[rank::ranks], parts[rank][step][0])
            assert torch.equal(masks[rank::ranks], parts[rank][step][1])


def test_an_epoch_continues_with_the_crops_that_would_have_come(hundred_and_one: Path) -> None:
    def loader(workers: int) -> Any:
        seed_everything(7)
        data = build(hundred_and_one, augmentation="mmseg", num_workers=workers, scale=[40, 32])
        data.setup("fit")
        return data.train_dataloader()

    whole = list(loader(0))
    again = loader(1)
    again.sampler.start(0, 12)  # three batches were seen
    rest = list(again)
    assert len(whole) == 25
    assert len(rest) == 22
    for (images, masks), (expected, expected_masks) in zip(rest, whole[3:], strict=True):
        assert isinstance(images, PaddedImages)
        assert torch.equal(images.pixels, expected.pixels)
        assert images.inside == expected.inside
        assert torch.equal(masks, expected_masks)


class Pixelwise(BaseTask):
    """A linear classifier of single pixels, that keeps the losses of its steps."""

    def __init__(self, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__(nn.Conv2d(3, 3, 1))
        self.losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1], ignore_index=255)
        self.losses.append(loss.item())
        return loss


class SaveInTheMiddle(Callback):
    """Save a checkpoint after four steps, within the second of three epochs."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 4:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "four.ckpt")


def train(root: Path, ckpt: Path | None = None) -> Pixelwise:
    seed_everything(3)
    model = Pixelwise()
    trainer = make_trainer(1, root, max_steps=8, limit_val_batches=0, callbacks=[SaveInTheMiddle()])
    trainer.fit(model, build(root), ckpt_path=ckpt)
    return model


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
def test_a_run_is_continued_exactly(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 12, "val": 3})
    whole = train(tmp_path)
    rest = train(tmp_path, tmp_path / "four.ckpt")
    assert len(rest.losses) == 4
    assert rest.losses == whole.losses[4:]
    assert torch.equal(rest.model.weight, whole.model.weight)  # type: ignore[arg-type]


def test_a_part_is_held_back_and_validate_of_the_run_uses_it(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"": 20})
    data = build(tmp_path)
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (16, 4)
    assert not {*data.train_set.samples.paths} & {*data.val_set.samples.paths}
    assert data.holds_back
    assert data.describe("fit") == [
        f"Images:     16 training images of 3 classes in {tmp_path}/images/; 4 held back from the same folders for "
        "validation",
        "Masks:      Masks by value, with 3 classes.",
    ]
    run = flatten({"data": data.settings})
    other = build(tmp_path)
    other.evaluates_run(run, data.fingerprint())
    other.setup("validate")
    assert other.val_set.samples == data.val_set.samples
    assert other.describe("validate")[0] == (
        f"Images:     4 images of 3 classes, held back from training, in {tmp_path}/images/"
    )
    (tmp_path / "moved").mkdir()
    for name in ("images", "masks"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    moved = build(tmp_path / "moved")
    moved.evaluates_run(run, data.fingerprint())
    moved.setup("validate")
    assert len(moved.val_set) == 4  # found by their fingerprints
    stranger = build(tmp_path / "moved", split=SplitRules(seed=1))
    stranger.evaluates_run({"data.root": "/elsewhere"}, {})
    stranger.setup("validate")
    assert len(stranger.val_set) == 20


def test_a_changed_mask_changes_the_fingerprint(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 4, "val": 2})
    before = build(tmp_path)
    before.setup("fit")
    mask = np.asarray(Image.open(tmp_path / "masks/train/train0.png")).copy()
    mask[0, 0] ^= 1
    write_image(tmp_path / "masks/train/train0.png", mask)
    after = build(tmp_path)
    after.setup("fit")
    assert before.fingerprint()["train"] != after.fingerprint()["train"]
    assert before.fingerprint()["val"] == after.fingerprint()["val"]


def test_what_a_model_is_told(tmp_path: Path) -> None:
    write_pairs(tmp_path, lambda path, mask: write_palette(path, mask, COLORS))
    spec = build(
        tmp_path, crop_size=[16, 24], scale=[24, 48], input=InputOptions(mean=[0.5] * 3, crop_pct=0.9)
    ).data_spec
    assert (spec.class_names, spec.num_classes, spec.multi_label) == (["0", "1", "2"], 3, False)
    assert spec.palette == [list(color) for color in COLORS]
    assert spec.preprocessing == {
        "image_size": [16, 24], "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3,
        "std": [0.229, 0.224, 0.225], "crop_mode": "center", "scale": [48, 24],
    }  # fmt: skip
    assert "scale" not in build(tmp_path).preprocessing


def test_evaluation_keeps_images_as_they_are_without_a_scale(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, counts={"train": 3, "val": 2})
    write_image(tmp_path / "images/val/wide.jpg", scene(9, 24, 60)[0])
    write_image(tmp_path / "masks/val/wide.png", scene(9, 24, 60)[1])
    data = build(tmp_path, input=InputOptions(mean=[0, 0, 0], std=[1, 1, 1]))
    data.setup("validate")
    [batch] = finished(data, data.val_dataloader())
    assert [tuple(image.shape) for image in batch.images] == [(3, 24, 32), (3, 24, 32), (3, 24, 60)]
    pixels = np.asarray(Image.open(tmp_path / "images/val/val0.jpg").convert("RGB")) / 255
    assert np.abs(batch.images[0].permute(1, 2, 0).numpy() - pixels).max() < 0.03  # two JPEG decoders
    assert np.array_equal(batch.masks[0].numpy(), written["val0"])
    assert batch.paths[2].endswith("wide.jpg")


def test_a_model_of_several_scales_gets_original_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 4, "val": 2}, height=30, width=40)
    data = on_rank(tmp_path, 0, 1, scale=[20, 15])
    data.setup("validate")
    for takes_originals, size in ((True, (30, 40)), (False, (15, 20))):
        inference = SimpleNamespace(takes_originals=takes_originals)
        data.trainer.lightning_module = SimpleNamespace(inference=inference)  # type: ignore[union-attr, misc, assignment]
        [batch] = finished(data, data.val_dataloader())
        assert [tuple(image.shape[-2:]) for image in batch.images] == [size] * 2


def test_prediction(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(0, 20, 40)[0])
    (tmp_path / "b.png").write_bytes(b"nothing")
    data = build([str(tmp_path)], scale=[80, 80], class_names=NAMES)
    assert data.data_spec.palette == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]  # there are no masks
    data.setup("predict")
    [batch] = finished(data, data.predict_dataloader())
    assert isinstance(batch, UnlabeledScenes)
    assert [tuple(image.shape) for image in batch.images] == [(3, 40, 80)]
    assert batch.images[0].dtype == torch.float32
    assert (batch.sizes, batch.paths) == ([(20, 40)], [str(tmp_path / "a.png")])
    assert batch.unreadable == [(str(tmp_path / "b.png"), "its content is not an image of a known format")]


def test_polygons_are_trained_on(tmp_path: Path) -> None:
    written = write_coco(tmp_path, count=10)
    data = build(
        tmp_path, augmentation=SegmentationAugmentation(ratio=None, hflip=0, distortion=False), crop_size=[24, 32]
    )
    data.setup("fit")
    crop, path = data.train_set[0], data.train_set.samples.paths[0]
    assert np.array_equal(crop.mask.numpy(), written[Path(path).stem])


def test_crops_larger_than_all_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"": 6})
    data = build(tmp_path, crop_size=64)
    with pytest.raises(UserError) as caught:
        data.setup("fit")
    assert str(caught.value) == (
        "data.crop_size is 64×64 (height × width), but the largest training image has 24×32 pixels; choose 24 or less, "
        "or a larger data.scale."
    )
    build(tmp_path, crop_size=64, scale=[200, 100]).setup("fit")
    build(tmp_path, crop_size=[64, 32]).setup("fit")  # wide enough


def test_classes_that_no_training_image_has(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 4, "val": 2})
    write_classes(tmp_path / "classes.csv", [*NAMES, "bird"], [*COLORS, (1, 2, 3)])
    text = r"^No training image has a pixel of the class bird, which the model cannot learn; add images with it, or"
    with pytest.warns(UserWarning, match=text):
        build(tmp_path).setup("fit")


def test_images_that_cannot_be_read_are_skipped_if_asked(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 4, "val": 2})
    damaged = tmp_path / "images/train/train1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:700])
    data = build(tmp_path, bad_images=BadImageOptions(action="skip"))
    data.setup("fit")
    with pytest.warns(UserWarning, match=r"^Skipped in training: Cannot read the image"):
        skipped = data.train_set[1]
    assert skipped.pixels.shape == (3, 16, 16)
    strict = build(tmp_path)
    strict.setup("fit")
    with pytest.raises(UserError, match=r"^Cannot read the image"):
        strict.train_set[1]


@pytest.mark.parametrize(
    ("sizes", "scale", "side"),
    [
        ([(640, 480), (480, 640), (500, 375)], None, 480),
        ([(640, 470)] * 3, None, 448),
        ([(4000, 3000)] * 3, None, 512),
        ([(4000, 3000)] * 3, [400, 300], 288),
        ([(20, 28)] * 3, None, 32),
        ([(100, 64), (100, 96)], None, 64),  # the median is 80
    ],
)
def test_crops_from_the_sizes_of_images(sizes: list[tuple[int, int]], scale: list[int] | None, side: int) -> None:
    assert auto_crop(sizes, scale) == side


def test_crops_from_the_data(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 5, "val": 2}, height=70, width=101)
    data = build(tmp_path, crop_size="auto")
    preprocessing = data.data_spec.preprocessing
    assert preprocessing is not None
    assert preprocessing["image_size"] == 64
    data.setup("fit")
    assert data.settings["crop_size"] == 64
    assert data.train_set[0].pixels.shape == (3, 64, 64)


def test_crops_of_images_smaller_than_a_stride_are_padded(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 4, "val": 2})
    data = build(tmp_path, crop_size="auto")
    data.setup("fit")
    crop = data.train_set[0]
    assert crop.pixels.shape == (3, 32, 32)
    assert crop.inside[0] < 32


def test_class_pixels_of_training_masks(tmp_path: Path) -> None:
    written = write_pairs(tmp_path, counts={"train": 3, "val": 2}, ignored=True)
    data = build(tmp_path, batch_size=3)
    data.setup("fit")
    found = data.class_pixels()
    for of, stem in zip(found, ("train0", "train1", "train2"), strict=True):
        mask = written[stem]
        assert of == {index: int((mask == index).sum()) for index in np.unique(mask[mask != 255]).tolist()}


def test_batch_sizes_from_the_data(tmp_path: Path) -> None:
    write_pairs(tmp_path, counts={"train": 6, "val": 2})
    data = build(tmp_path, batch_size="auto")
    data.setup("fit")
    assert data.batch_size == 6
    assert build(None, batch_size="auto").batch_size == 16


def test_mistakes_in_the_options(tmp_path: Path) -> None:
    for options, text in [
        ({"augmentation": "heavy"}, r"^data\.augmentation is heavy, but must be one of none, light, strong, mmseg"),
        (
            {"class_names": ["a"]},
            r"^data\.class_names is \['a'\], but must be two names or more, each once, and none empty\.$",
        ),
        ({"class_names": ["a", ""]}, r"^data\.class_names is \['a', ''\], but must be two names .*, and none empty\.$"),
        ({"crop_size": 0}, r"^data\.crop_size is 0, but must be 1 pixel or more, or a height and a width\.$"),
        ({"scale": [0, 4]}, r"^data\.scale is \[0, 4\]"),
    ]:
        with pytest.raises(UserError, match=text):
            build(tmp_path, **options)
    with pytest.raises(UserError, match=r"^data\.masks\.ignore_index is 300, but must be from 0 to 255\.$"):
        MaskOptions(ignore_index=300)
    with pytest.raises(UserError, match=r"^No images were named"):
        build(None).setup("fit")
    write_pairs(tmp_path)
    with pytest.raises(UserError, match=r"^No test split: .*/test was not found"):
        build(tmp_path).setup("test")
