"""Batches after the transfer to the device: the documented batch, in the trainer's precision, from any loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image
from torch.nn.functional import cross_entropy
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import to_tensor

from inceptionnext_lit import load_classifier
from inceptionnext_lit.data import Augmentation, ImageFolderDataModule, load_image
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.splitting.rules import SplitRules
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.tasks import ClassificationTask
from tests.data.test_jpeg import photo


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    """Class folders of JPEGs, including one rotated by EXIF, one grayscale and one CMYK."""
    for name, shade in (("dark", 0.3), ("light", 1.0)):
        for number in range(8):
            target = tmp_path / name / f"{number}.jpg"
            target.parent.mkdir(exist_ok=True)
            image = photo(60 + number, 50).point(lambda level, shade=shade: int(level * shade))
            exif = Image.Exif()
            if number == 3:
                exif[0x0112] = 6
            image.convert({4: "L", 5: "CMYK"}.get(number, "RGB")).save(target, quality=90, exif=exif)
    return tmp_path


class Recorder(BoringModel):
    """Keep the batch of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[Any]] = {"train": [], "val": []}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen["train"].append(batch)
        return self.layer.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen["val"].append(batch)


def fitted(jpegs: Path, workers: int, precision: Any = "32-true") -> dict[str, list[Any]]:
    data = ImageFolderDataModule(
        str(jpegs), image_size=32, batch_size=4, num_workers=workers, augmentation=Augmentation(erasing=0.9)
    )
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, precision=precision,
    )  # fmt: skip
    model = Recorder()
    trainer.fit(model, data)
    return model.seen


@pytest.mark.slow
def test_steps_get_the_documented_batch_from_any_number_of_processes(
    jpegs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    alone, with_workers = fitted(jpegs, 0), fitted(jpegs, 2)
    assert [len(alone[stage]) for stage in ("train", "val")] == [3, 1]
    for stage in ("train", "val"):
        for (images, labels), (others, same) in zip(alone[stage], with_workers[stage], strict=True):
            assert (images.dtype, images.shape[1:], labels.dtype) == (torch.float32, (3, 32, 32), torch.int64)
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert others.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(images, others)  # including the noise of erasing
            assert torch.equal(labels, same)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_the_trainers_precision_comes_last(
    jpegs: Path, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    exact, converted = fitted(jpegs, 0)["val"], fitted(jpegs, 0, precision)["val"]
    assert converted[0][0].dtype == dtype
    assert torch.equal(converted[0][0], exact[0][0].to(dtype))


def test_evaluation_matches_single_images(jpegs: Path, trained: Path) -> None:
    """Compare a checkpoint's metrics and predictions with those of single images by ``to_tensor`` and ``Normalize``."""
    path = trained / "checkpoints/best.ckpt"
    classifier = load_classifier(path, "cpu")
    form = classifier.preprocessing
    size = form["image_size"]
    reference = v2.Compose([
        v2.Resize(int(size / form["crop_pct"]), InterpolationMode(form["interpolation"])), v2.CenterCrop(size),
        to_tensor, v2.Normalize(form["mean"], form["std"]),
    ])  # fmt: skip
    task = ClassificationTask.load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()
    data = ImageFolderDataModule(
        str(jpegs), image_size=size, batch_size=16, num_workers=0, class_names=["dark", "light"],
        input=InputOptions(crop_pct=form["crop_pct"], mean=form["mean"], std=form["std"]),
        split=SplitRules(val_fraction=0.99),
    )  # fmt: skip
    data.setup("validate")
    [(images, labels)] = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    singly = torch.stack([reference(load_image(sample.path)) for sample in data.val_set.samples])
    assert torch.equal(images, singly)
    with torch.no_grad():
        logits = task(images)
        expected = task(singly.contiguous(memory_format=torch.channels_last))
    assert torch.equal(logits, expected)
    assert float(cross_entropy(logits, labels)) == float(cross_entropy(expected, labels))
    predicted = classifier.predict([sample.path for sample in data.val_set.samples], batch_size=16)
    with torch.no_grad():
        best = deploy(task.inference_model)(task._lay_out(singly)).softmax(dim=1).max(dim=1)
    assert [p.label for p in predicted] == [task.class_names[index] for index in best.indices]
    assert np.allclose([p.probability for p in predicted], best.values, rtol=0, atol=1e-7)
