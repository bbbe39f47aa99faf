"""Tasks in a Trainer of one's own, with one's own tensors, loaders, callbacks and arguments."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelPruning
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit import Classifier, load_classifier, load_segmenter
from inceptionnext_lit.data import Augmentation, ImageFolderDataModule, InputOptions
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.weights import load_weights
from inceptionnext_lit.reports.explain.attribution import heat_map
from inceptionnext_lit.tasks import ClassificationTask, SegmentationTask
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from tests.small_checkpoint import INPUT

CLASSES = ["a", "b", "c"]
SPEC = DataSpec(CLASSES, preprocessing=INPUT)
SIZE = 28


def fit(task: LightningModule, train: DataLoader[Any], val: DataLoader[Any] | None = None, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**{"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False, **quiet, **options})
    trainer.fit(task, train, val)
    return trainer


def loader(*columns: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.rand(6, 3, SIZE, SIZE), *columns), batch_size=3)


def classifier(**options: Any) -> ClassificationTask:
    return ClassificationTask("inceptionnext_iso_micro", data_spec=SPEC, **options)


LABELS = torch.arange(6) % 3


@pytest.mark.parametrize(
    ("names", "shown"),
    [(["a", "a"], "'a', 'a'"), ("abc", "abc"), ([0, 1, 2], "0, 1, 2"), ([], "none"), (["a", " "], "'a', ' '")],
)
def test_names_that_are_no_class_names(names: Any, shown: str) -> None:
    with pytest.raises(UserError) as error:
        DataSpec(names)
    assert str(error.value) == f"The class names are {shown}; give a list of texts, each once and none empty."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": None}, "has no std; it needs crop_pct, image_size, interpolation, mean, std."),
        ({"crop_modes": "squash"}, "has crop_modes, which is none of crop_mode, crop_pct, exif, image_size, interpol"),
        ({"crop_mode": "centre"}, "'s crop_mode is 'centre'; choose one of center, squash, border."),
        (
            {"std": [0.2, 0.0, 0.2]},
            "'s std is [0.2, 0.0, 0.2]; it must be one number above 0 per channel, as many as",
        ),
        ({"std": [0.2]}, "'s std is [0.2]; it must be one number above 0 per channel, as many as means."),
        ({"crop_pct": 0}, "'s crop_pct is 0; it must be above 0 and at most 1."),
    ],
)
def test_a_preprocessing_that_cannot_be_applied(changes: dict[str, Any], message: str) -> None:
    changed = {key: value for key, value in (INPUT | changes).items() if value is not None}
    with pytest.raises(UserError) as error:
        DataSpec(CLASSES, preprocessing=cast(Any, changed))
    assert str(error.value).startswith("The preprocessing")
    assert message in str(error.value)


def test_statistics_of_bytes_with_ones_own_loader(tmp_path: Path) -> None:
    """A warning, and no error: a model that was trained with them predicts with them."""
    spec = DataSpec(CLASSES, preprocessing=cast(Any, {**INPUT, "mean": [123.0] * 3, "std": [58.0] * 3}))
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=spec)
    with pytest.warns(UserWarning, match=r"^The task's mean is \[123\.0, .* pixels are 0 to 1; divide them by 255\.$"):
        fit(task, loader(LABELS)).save_checkpoint(tmp_path / "bytes.ckpt")
    assert load_classifier(tmp_path / "bytes.ckpt").preprocessing["mean"] == [123.0] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "bce"}, "loss is 'bce'; give LossOptions(…), or leave it out."),
        ({"optimizer": {"name": "sgd"}}, "optimizer is {'name': 'sgd'}; give OptimizerOptions(…), or leave it out."),
        ({"finetuning": 1}, "finetuning is 1; give Finetuning(…), or leave it out."),
    ],
)
def test_options_of_another_type(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as error:
        classifier(**options)
    assert str(error.value) == message


def test_a_model_is_given_by_its_name() -> None:
    with pytest.raises(UserError, match=r"^A model is given by its name, such as inceptionnext_tiny, not as a Linear"):
        ClassificationTask(cast(Any, nn.Linear(1, 1)), data_spec=SPEC)


def test_a_third_tensor_is_the_weight_of_images() -> None:
    images, weights = torch.rand(6, 3, SIZE, SIZE), torch.tensor([2.0, 0, 1, 1, 1, 1])
    task = classifier().eval()
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(task(images), LABELS, reduction="none")
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    task.metrics.trained = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        loss = task.training_step((images, LABELS, weights), 0)
    assert float(loss) == pytest.approx(float((weights * losses).mean()))
    with pytest.raises(UserError, match=r"and this one is torch\.float32, torch\.int64, torch\.int64; leave out what"):
        fit(classifier(), loader(LABELS, torch.arange(6)))
    with pytest.raises(UserError, match=r"this one is torch\.float32, torch\.int64, torch\.float32, torch\.float32"):
        fit(classifier(), loader(LABELS, torch.ones(6), torch.ones(6)))


def test_pruned_weights_are_not_averaged() -> None:
    def pruning() -> ModelPruning:
        return ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=False, verbose=0)

    with pytest.raises(UserError, match=r"^The model's weights are not those that model\.ema_decay averages: \S+ is"):
        fit(classifier(ema_decay=0.9), loader(LABELS), max_epochs=2, callbacks=[pruning()])
    task = classifier()
    fit(task, loader(LABELS), max_epochs=2, callbacks=[pruning()])
    assert float(task.model.state_dict()["head.weight_mask"].mean()) < 1


def test_a_model_compiled_by_the_user_is_loaded(tmp_path: Path) -> None:
    task = classifier()
    task.model = cast(nn.Module, torch.compile(task.model, backend="eager"))
    fit(task, loader(LABELS)).save_checkpoint(tmp_path / "compiled.ckpt")
    image = torch.randint(256, (3, SIZE, SIZE), dtype=torch.uint8)
    [found] = load_classifier(tmp_path / "compiled.ckpt").predict([image])
    mean, std = (torch.tensor(INPUT[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = task.eval()(((image / 255 - mean) / std)[None]).softmax(1)[0]
    assert found.label == CLASSES[int(expected.argmax())]
    assert found.probability == pytest.approx(float(expected.max()), abs=1e-5)


def test_arguments_given_to_load_from_checkpoint(tmp_path: Path) -> None:
    fit(classifier(), loader(LABELS)).save_checkpoint(tmp_path / "a.ckpt")
    other = DataSpec(["x", "y", "z"], preprocessing=INPUT)
    task = ClassificationTask.load_from_checkpoint(tmp_path / "a.ckpt", data_spec=other, drop_path=0.2)
    assert task.class_names == ["x", "y", "z"]
    assert task.hparams["drop_path"] == 0.2
    assert ClassificationTask.load_from_checkpoint(tmp_path / "a.ckpt").class_names == CLASSES


class Own(LightningModule):
    """A module as people write it around a timm model."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = timm.create_model("inceptionnext_iso_micro", num_classes=3)
        self.temperature = nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]) * self.temperature, batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def test_weights_in_ones_own_module(tmp_path: Path) -> None:
    own, file = Own(), tmp_path / "own.ckpt"
    fit(own, loader(LABELS)).save_checkpoint(file)
    with pytest.raises(
        UserError, match=r"own\.ckpt is a file of weights, not a checkpoint of fit; give the name of its"
    ):
        load_classifier(file)
    classifier = load_classifier("inceptionnext_iso_micro", pretrained=str(file), class_names=CLASSES)
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(classifier.task(images), own.eval().net(images))
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3)
    assert str(load_weights(model, file)).endswith("51 tensors loaded, 0 reinitialized, 1 skipped (temperature)")
    assert torch.equal(model.stem.weight, own.net.stem.weight)
    two = {f"{one}.{name}": tensor for one in ("teacher", "student") for name, tensor in model.state_dict().items()}
    torch.save(two, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"two\.pth has weights of 2 such models, teacher and student; save"):
        load_weights(model, tmp_path / "two.pth")
    for prefix, beside in (("net.", "head.weight"), ("system.net.module.", "stem.bias"), ("model.net.", "norm.weight")):
        nested = {f"{prefix}{name}": tensor for name, tensor in own.net.state_dict().items()} | {beside: torch.ones(5)}
        torch.save({"state_dict": nested}, tmp_path / "nested.ckpt")
        fresh = timm.create_model("inceptionnext_iso_micro", num_classes=3)
        assert load_weights(fresh, tmp_path / "nested.ckpt").skipped == (beside,)
        assert torch.equal(fresh.stem.weight, own.net.stem.weight)
    torch.save({"other.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"None of its tensors has the name of one of the model's; its first are other\.we"
    ):
        load_weights(model, tmp_path / "other.pth")


class Subclass(ClassificationTask):
    """A classifier of a user's."""


def test_a_checkpoint_of_a_subclass(tmp_path: Path) -> None:
    """It says how images are prepared, which must not be lost."""
    task = Subclass("inceptionnext_iso_micro", data_spec=SPEC)
    fit(task, loader(LABELS)).save_checkpoint(tmp_path / "sub.ckpt")
    file = tmp_path / "sub.ckpt"
    for name, pretrained in ((file, None), ("inceptionnext_iso_micro", str(file))):
        with pytest.raises(UserError) as error:
            load_classifier(name, pretrained=pretrained)
        assert str(error.value) == (
            f"{file} is a checkpoint of the class {__name__}.Subclass, which is not one of this package's, so it was "
            "not imported. In Python, load it with that class's load_from_checkpoint; "
            "inceptionnext_lit.Classifier then takes the task."
        )
    classifier = Classifier(Subclass.load_from_checkpoint(tmp_path / "sub.ckpt"))
    [found] = classifier.predict(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))
    assert found.label in CLASSES


def test_predictions_of_ones_own_loader() -> None:
    task, quiet = classifier(), {"enable_progress_bar": False, "logger": False}
    trainer = Trainer(accelerator="cpu", enable_checkpointing=False, **cast(Any, quiet))
    images = torch.rand(5, 3, SIZE, SIZE)
    with torch.no_grad():
        best = task.eval()(images).argmax(1).tolist()
    for data in (images, TensorDataset(images, torch.zeros(5))):
        found = cast(list[Any], trainer.predict(task, DataLoader(cast(Any, data), batch_size=3)))
        assert [path for batch in found for path in batch["paths"]] == [
            *(f"batch 0, image {row}" for row in range(3)), "batch 1, image 0", "batch 1, image 1"
        ]  # fmt: skip
        assert [int(row[0]) for batch in found for row in batch["classes"]] == best


def test_heat_maps_of_gray_pictures() -> None:
    task = classifier()
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8))
    assert np.array_equal(heat_map(task, gray), heat_map(task, gray.convert("RGB")))
    with pytest.raises(TypeError, match=r"^A heat map is of a PIL image or a tensor \(C, H, W\), not of a str\.$"):
        heat_map(task, "photo.jpg")  # type: ignore[arg-type]


def test_numpy_numbers_are_saved_as_plain_ones(tmp_path: Path) -> None:
    rate = np.logspace(-4, -2, 3)[1]
    data = ImageFolderDataModule(
        "sample", 28, batch_size=16, num_workers=0, augmentation=Augmentation(erasing=np.float64(0.1)),
        input=InputOptions(crop_pct=np.float64(0.9), mean=list(np.array([0.5, 0.5, 0.5]))),
    )  # fmt: skip
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=data.data_spec, lr=rate)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"limit_train_batches": 1, "limit_val_batches": 0, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert type(stored["optimizer_states"][0]["param_groups"][0]["initial_lr"]) is float
    assert stored["run"]["data.augmentation.erasing"] == 0.1
    Trainer(max_epochs=2, enable_checkpointing=False, **quiet).fit(task, data, ckpt_path=tmp_path / "a.ckpt")
    assert task.hparams["lr"] == pytest.approx(1e-3)


def test_a_segmentation_model_on_tensors(tmp_path: Path) -> None:
    """Batches are images and masks; without colors of the classes, masks have the usual ones."""
    masks = (torch.rand(6, SIZE, SIZE) * 3).long()
    options = SegmentationOptions(decoder="semantic_fpn", decoder_kwargs={"width": 16, "head_width": 8})
    task = SegmentationTask("inceptionnext_iso_micro", data_spec=SPEC, segmentation=options)
    trainer = fit(task, loader(masks), loader(masks))
    trainer.save_checkpoint(tmp_path / "s.ckpt")
    [found] = trainer.validate(task, loader(masks), verbose=False)
    assert 0 <= found["val/mIoU"] <= 1
    segmenter = load_segmenter(tmp_path / "s.ckpt")
    assert segmenter.palette == colormap(3)
    assert segmenter.predict([torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)])[0].mask.shape == (SIZE, SIZE)
