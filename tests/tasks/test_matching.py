"""A task and a data module of other classes or another preprocessing are not used together without a word."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Trainer

from inceptionnext_lit.data import ImageFolderDataModule, InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.classifier import Classifier
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.matching import check_data
from tests.small_checkpoint import INPUT

CLASSES = ("bag", "coat", "sandal")
AS_INPUT: dict[str, Any] = {
    "image_size": INPUT["image_size"],
    "input": InputOptions(mean=INPUT["mean"], std=INPUT["std"], crop_pct=INPUT["crop_pct"]),
}


@pytest.fixture(scope="module")
def root(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("images"), {"train": 8, "val": 4}, CLASSES)


@pytest.fixture(scope="module")
def two_classes(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("two"), {"train": 2, "val": 4}, CLASSES[1:])


def trainer() -> Trainer:
    settings: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, **settings)


def data(root: Path, **options: Any) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), batch_size=4, num_workers=0, augmentation="none", **{**AS_INPUT, **options})


def task(names: list[str] | None = None, **changed: Any) -> ClassificationTask:
    spec = DataSpec(names, None if names else len(CLASSES), preprocessing=Preprocessing(**(INPUT | changed)))
    return ClassificationTask("inceptionnext_iso_micro", data_spec=spec)


def test_other_classes(root: Path, two_classes: Path) -> None:
    with pytest.raises(UserError) as error:
        trainer().validate(task(list(CLASSES)), data(two_classes), verbose=False)
    assert str(error.value) == (
        "The task has 3 classes (bag, coat, sandal), and the data module 2 classes (coat, sandal). To train, create "
        "the task with data_spec=data.data_spec; to evaluate, create the data module with class_names=task.class_names."
    )
    with pytest.raises(UserError, match=r"and the data module 3 classes \(bag, coat, sandal\) in another order\. To"):
        trainer().validate(task(["sandal", "coat", "bag"]), data(root), verbose=False)
    with pytest.raises(UserError, match=r"^The task has 4 classes \(a, b, c, d\), and the data module 3 classes"):
        trainer().fit(task(list("abcd")), data(root))


def test_the_tasks_classes_given_to_the_data(root: Path, two_classes: Path) -> None:
    one = task(list(CLASSES))
    [found] = trainer().validate(one, data(two_classes, class_names=one.class_names), verbose=False)
    files = sorted((two_classes / "val").rglob("*.png"))
    predicted = Classifier(one, "cpu").predict(files)
    right = [prediction.label == file.parent.name for prediction, file in zip(predicted, files, strict=True)]
    assert len(right) == 8
    assert found["val/acc1"] == pytest.approx(sum(right) / 8)


def test_numbered_classes_match_as_many_names(root: Path) -> None:
    trainer().fit(task(), data(root))


def test_another_preprocessing_is_refused_in_training(root: Path) -> None:
    with pytest.raises(UserError) as error:
        trainer().fit(task(list(CLASSES), mean=[0.0] * 3, image_size=32), data(root))
    assert str(error.value) == (
        "The task expects images with image_size 32; mean [0.0, 0.0, 0.0], but the data module prepares them with "
        "image_size 28; mean [0.5, 0.5, 0.5]. Create the task with data_spec=data.data_spec."
    )


def test_another_preprocessing_is_described_in_evaluation(root: Path) -> None:
    one = task(list(CLASSES))
    with pytest.warns(UserWarning, match=r"prepared in another way than in training: image_size 32 instead of 28\.$"):
        trainer().validate(one, data(root, image_size=32), verbose=False)
    with pytest.warns(
        UserWarning, match=r"than in training: image_size \[28, 32\] instead of 28, crop_pct 0\.875 instead of 1"
    ):
        trainer().predict(one, ImageFolderDataModule(str(root / "val"), [28, 32], num_workers=0))


def test_photos_are_rotated_for_prediction_whatever_training_did(root: Path, recwarn: pytest.WarningsRecorder) -> None:
    trainer().predict(task(list(CLASSES), exif="ignore"), data(root / "val"))
    assert not [warning for warning in recwarn if "prepared" in str(warning.message)]


def test_another_data_module_is_not_compared() -> None:
    """Its attributes of these names may be anything."""
    one = task(list(CLASSES))
    others = [
        SimpleNamespace(data_spec={"classes": 5}, preprocessing={"resize": 256}),
        SimpleNamespace(preprocessing=lambda image: image),
        SimpleNamespace(preprocessing=[1]),
        None,
    ]
    for other in others:
        check_data(one, other, "fit")
    same = {**INPUT, "mean": tuple(np.float32(value) for value in INPUT["mean"]), "image_size": (28, 28), "more": 1}
    check_data(one, SimpleNamespace(preprocessing=same), "fit")
    with pytest.raises(UserError, match=r"^The task expects images with std \[0\.25, 0\.25, 0\.25\], but the data"):
        check_data(one, SimpleNamespace(preprocessing={**same, "std": [0.25, 0.25, 0.26]}), "fit")
