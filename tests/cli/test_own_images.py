"""Commands on custom images: manifests, other channels, other classes, batches that fit in memory."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from inceptionnext_lit import load_classifier
from inceptionnext_lit.cli.auto_values import fit_memory
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.checkpoint_io import read_checkpoint
from tests.recipes import SMALL

pytestmark = [
    pytest.mark.filterwarnings("ignore:The images are normalized with mean"),  # weights of other images
]

Cli = Callable[..., None]
SHORT = [*SMALL, "--data.batch_size", "4", "--trainer.max_epochs", "1", "--model.drop_path", "0"]


def error_of(cli: Cli, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        cli(*words)
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def channels_folder(root: Path, channels: int) -> Path:
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            values = generator.integers(0, 90, (20, 24, channels), dtype=np.uint8) + np.uint8(150 * label)
            if channels == 1:
                Image.fromarray(values.squeeze()).save(root / name / f"{number}.png")
            else:
                np.save(root / name / f"{number}.npy", values)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 6])
def test_other_channels_from_training_to_labels(cli: Cli, tmp_path: Path, channels: int, trained: Path) -> None:
    root = channels_folder(tmp_path / "data", channels)
    mean = ["--data.input.mean", f"{[0.5] * channels}", "--data.input.std", f"{[0.5] * channels}"]
    words = [*SHORT, *mean, "--data.root", root, "--data.in_chans", channels, "--trainer.max_epochs", 6]
    cli("fit", *words, "--model.pretrained", trained / "checkpoints/best.ckpt", "--data.augmentation.hflip", 0)
    checkpoint = tmp_path / "runs/quickstart/version_0/checkpoints/best.ckpt"
    assert read_checkpoint(checkpoint)["state_dict"]["model.stem.weight"].shape[1] == channels
    cli("validate", "--ckpt_path", checkpoint, "--data.root", root)
    cli("predict", root, "--ckpt_path", checkpoint, "--output", "labels.csv")
    with open("labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert sum(row["label"] == Path(row["path"]).parent.name for row in rows) >= 22
    found = load_classifier(checkpoint).predict([row["path"] for row in rows])
    assert [prediction.label for prediction in found] == [row["label"] for row in rows]


@pytest.mark.slow
def test_a_wrong_manifest(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {".": 6})
    paths = sorted(root.rglob("*.png"))
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in paths]
    (root / "list.csv").write_text("\n".join(["path,label", *rows, "none.png,bag"]))
    message = error_of(cli, capsys, "fit", *SHORT, "--data.root", root / "list.csv")
    assert "do not exist, 1 of 19 (row" in message
    assert "none.png" in message
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    cli("fit", *SHORT, "--data.root", root / "list.csv")
    (root / "one.csv").write_text("\n".join(["path,label", *rows[:7]]))
    message = error_of(cli, capsys, "fit", *SHORT, "--data.root", root / "one.csv")
    assert "The class coat has a single image, of which none can be held back for validation" in message


@pytest.mark.slow
def test_a_checkpoint_with_other_classes(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = make_folder(tmp_path / "few", {"train": 6, "val": 2}, classes=("bag", "coat"))
    other = make_folder(tmp_path / "other", {"train": 6, "val": 2}, classes=("bag", "sandal"))
    cli("fit", *SHORT, "--data.root", few)
    checkpoint = tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt"
    more = [*SHORT, "--data.root", other, "--trainer.max_epochs", "2"]
    message = error_of(cli, capsys, "fit", *more, "--ckpt_path", checkpoint)
    assert "does not have: sandal. Known are bag, coat." in message
    assert "start a new head for them from a checkpoint's weights: --model.pretrained CHECKPOINT" in message
    cli("fit", *more, "--model.pretrained", checkpoint, "--run_name", "new_head")
    new = read_checkpoint(tmp_path / "runs/new_head/version_0/checkpoints/last.ckpt")
    assert new["hyper_parameters"]["data_spec"]["class_names"] == ["bag", "sandal"]


class Hungry(ClassificationTask):
    """Runs out of GPU memory above a number of images."""

    most = 8

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        if len(batch[0]) > self.most:
            raise RuntimeError("CUDA error: out of memory")
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(("most", "expected"), [(8, 8), pytest.param(1000, 16, marks=pytest.mark.slow)])
def test_the_batch_is_reduced_to_fit_in_memory(
    make_folder: Callable[..., Path], tmp_path: Path, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "data", {"train": 20, "val": 2})
    data = ImageFolderDataModule(
        str(root), image_size=28, batch_size=16, num_workers=0, input=InputOptions(crop_pct=1.0)
    )
    task = Hungry("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=3, preprocessing=data.preprocessing))
    monkeypatch.setattr(Hungry, "most", most)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path}
    trainer = Trainer(**options, enable_checkpointing=False)
    data.trainer = trainer
    data.setup("fit")
    fit_memory(task, data, trainer)
    assert data.batch_size == expected
    assert data.trainer is trainer
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
