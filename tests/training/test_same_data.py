"""The data of all ranks of a run, and of a resumed run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import seed_everything

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import SharedError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from inceptionnext_lit.training.callbacks.same_data import compare_ranks, differences
from tests.ranks import run_ranks
from tests.training.test_ranks import make_trainer

BEFORE = {"bag": (3, 11), "coat": (3, 12)}


def test_changes_are_listed_class_by_class() -> None:
    now = {"bag": (4, 13), "coat": (3, 14), "shirt": (1, 15)}
    assert differences(BEFORE, now) == ["bag 3 → 4 images", "coat 3 images, but other ones", "shirt 0 → 1 images"]
    assert differences(BEFORE, BEFORE) == []


def test_the_first_rank_that_differs_is_named() -> None:
    one = ("node1", ["bag", "coat"], {"train": BEFORE})
    assert compare_ranks([one, one]) is None
    other = ("node2", ["bag", "coat"], {"train": BEFORE | {"coat": (2, 9)}})
    assert compare_ranks([one, one, other]) == (
        "The ranks do not have the same data: rank 0 on node1 has 2 classes, 6 train images; rank 2 on node2 "
        "has 2 classes, 5 train images. From the first to the second: train: coat 3 → 2 images. Give all machines the "
        "same files under data.root."
    )
    names = ("node2", ["bag", "hat"], {"train": BEFORE})
    text = compare_ranks([one, names]) or ""
    assert "the class coat only on rank 0, the class hat only on rank 1" in text
    assert "the classes in another order" in (compare_ranks([one, ("node2", ["coat", "bag"], one[2])]) or "")


def fit_differently(roots: list[str], out: Path) -> str:
    """Train on two ranks that find different images."""
    seed_everything(3)
    data = ImageFolderDataModule(
        roots[int(os.environ["RANK"])], image_size=28, batch_size=2, num_workers=0, input=InputOptions(crop_pct=1.0)
    )
    task = ClassificationTask(
        "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=data.num_classes, class_names=data.classes)
    )
    try:
        make_trainer(2, out, max_steps=1, limit_val_batches=0).fit(task, data)
    except SharedError as error:
        return str(error)
    return "trained"


def test_two_ranks_with_different_images(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    roots = [make_folder(tmp_path / name, {"train": 4, "val": 2}) for name in ("one", "two")]
    shutil.rmtree(roots[1] / "train/bag")
    shutil.rmtree(roots[1] / "val/bag")
    told = run_ranks(2, fit_differently, tmp_path / "out", [str(root) for root in roots], tmp_path)
    assert told[0] == told[1]
    assert "has 3 classes, 12 train images, 6 val images; rank 1 on " in told[0]
    assert "the class bag only on rank 0, train: bag 4 → 0 images, val: bag 2 → 0 images" in told[0]


@pytest.fixture
def root(make_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data", {"train": 4, "val": 2})


def train(
    root: Path, folder: Path, epochs: int, ckpt_path: str | None = None, **options: Any
) -> tuple[BestCheckpoint, str]:
    """Return the callback that keeps the best epoch, and the path of the last checkpoint."""
    seed_everything(3)
    classes = ["bag", "coat", "sandal"]
    data = ImageFolderDataModule(
        str(root),
        image_size=28,
        batch_size=4,
        num_workers=0,
        input=InputOptions(crop_pct=1.0),
        class_names=classes,
        **options,
    )
    task = ClassificationTask(
        "inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3, class_names=["bag", "coat", "sandal"])
    )
    best, last = BestCheckpoint("val/acc1"), LastCheckpoint()
    trainer = make_trainer(1, folder, max_epochs=epochs, enable_checkpointing=True, callbacks=[best, last])
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    return best, last.best_model_path


@pytest.mark.slow
def test_data_that_changed_between_two_runs(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, last = train(root, tmp_path / "run", 1)
    train(root, tmp_path / "run", 2, last)
    assert "changed" not in capsys.readouterr().out
    for name in ("bag", "coat"):
        (root / "train" / name).rename(root / "train" / f"{name}.old")
    (root / "train/bag.old").rename(root / "train/coat")
    (root / "train/coat.old").rename(root / "train/bag")
    shutil.copy(next((root / "train/sandal").iterdir()), root / "train/sandal/more.png")
    next((root / "val/sandal").iterdir()).unlink()
    train(root, tmp_path / "run", 3, last)
    printed = capsys.readouterr().out
    assert (
        "Data:       changed since the checkpoint, train: bag 4 images, but other ones, coat 4 images, but other ones, "
        "sandal 4 → 5 images"
    ) in printed
    assert "Data:       changed since the checkpoint, val: sandal 2 → 1 images" in printed
    assert "Best:       chosen again, since the validation images have changed" in printed
    shutil.rmtree(root / "train/bag")
    with pytest.raises(SharedError, match="no longer have training images of bag; the checkpoint's run had 4"):
        train(root, tmp_path / "run", 4, last)


@pytest.mark.parametrize(
    ("option", "value", "was"), [("seed", 1, 0), ("val_fraction", 0.5, 0.2), ("num_folds", 4, None)]
)
def test_other_rules_hold_back_what_was_trained_on(
    make_folder: Callable[..., Path], tmp_path: Path, option: str, value: float, was: float | None
) -> None:
    root = make_folder(tmp_path / "data", {".": 10})
    _, last = train(root, tmp_path / "run", 1)
    with pytest.raises(SharedError, match=rf"data\.split\.{option} is {value} and was {was} in .* would be held back"):
        train(root, tmp_path / "run", 2, last, split=SplitRules(**{option: value}))


@pytest.mark.slow
def test_more_images_may_hold_back_what_was_trained_on(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {".": 10})
    _, last = train(root, tmp_path / "run", 1)
    for image in sorted((root / "bag").iterdir()):
        shutil.copy(image, image.with_name(f"more_{image.name}"))
    with pytest.warns(UserWarning, match="may now contain images that this run was trained on"):
        train(root, tmp_path / "run", 2, last)
