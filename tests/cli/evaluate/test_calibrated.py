"""A calibration in a checkpoint: predict uses it, fit drops it, convert keeps it, and a broken one is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from inceptionnext_lit import load_classifier
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.tasks.classification.calibration import StoredCalibration
from inceptionnext_lit.tasks.loading import load_published, load_task
from tests.recipes import SMALL
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
CLASSES = ["bag", "coat", "sandal"]
MICRO = "inceptionnext_iso_micro"


@pytest.fixture
def photos(tmp_path: Path, make_folder: Callable[..., Path]) -> list[str]:
    root = make_folder(tmp_path / "photos", {".": 3})
    return [str(path) for path in sorted(root.rglob("*.png"))]


def predicted(cli: Cli, checkpoint: Path, photos: list[str], *more: object) -> list[dict[str, Any]]:
    few = ["--data.num_workers", 0, "--trainer.enable_progress_bar", "false", "--overwrite", "--probabilities", "all"]
    cli("predict", *photos, "--ckpt_path", checkpoint, "--output", "out.jsonl", *few, *more)
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def probabilities(rows: list[dict[str, Any]]) -> Tensor:
    return torch.tensor([list(row["probabilities"].values()) for row in rows])


@pytest.mark.slow
def test_a_temperature(cli: Cli, tmp_path: Path, photos: list[str]) -> None:
    save_checkpoint(tmp_path / "plain.ckpt", CLASSES)
    save_checkpoint(tmp_path / "cooled.ckpt", CLASSES, calibration={"temperature": 2.5, "thresholds": None})
    plain, cooled = (predicted(cli, tmp_path / name, photos) for name in ("plain.ckpt", "cooled.ckpt"))
    expected = (probabilities(plain).log() / 2.5).softmax(dim=1)  # log-probabilities are logits up to a constant
    torch.testing.assert_close(probabilities(cooled), expected, rtol=1e-4, atol=1e-6)
    assert (probabilities(cooled) - probabilities(plain)).abs().max() > 0.05
    assert [row["label"] for row in cooled] == [row["label"] for row in plain]
    found = load_classifier(tmp_path / "cooled.ckpt", "cpu").predict(photos)
    assert [one.probability for one in found] == pytest.approx(expected.max(dim=1).values.tolist(), rel=1e-4)
    assert [one.top5 for one in found] == [pytest.approx(row["top5"], abs=1e-5) for row in cooled]


@pytest.mark.slow
def test_a_temperature_is_applied_to_the_logits_averaged_with_the_mirror_images(
    cli: Cli, tmp_path: Path, photos: list[str]
) -> None:
    flip = ["--model.execution.test_time_flip", "true"]
    task = save_checkpoint(tmp_path / "plain.ckpt", CLASSES)
    save_checkpoint(tmp_path / "cooled.ckpt", CLASSES, calibration={"temperature": 0.5})
    plain, flipped = (predicted(cli, tmp_path / "plain.ckpt", photos, *more) for more in ([], flip))
    cooled = predicted(cli, tmp_path / "cooled.ckpt", photos, *flip)
    expected = (probabilities(flipped).log() / 0.5).softmax(dim=1)
    torch.testing.assert_close(probabilities(cooled), expected, rtol=1e-4, atol=1e-6)
    assert (probabilities(flipped) - probabilities(plain)).abs().max() > 1e-3
    # not the mean of two tempered predictions
    classifier = load_classifier(tmp_path / "plain.ckpt", "cpu")
    images = torch.stack([classifier._transform(classifier._load(path)) for path in photos])
    with torch.inference_mode():
        both = [task(classifier._to_input(pixels)) / 0.5 for pixels in (images, images.flip(-1))]
    other = torch.stack([logits.softmax(dim=1) for logits in both]).mean(dim=0)
    assert (probabilities(cooled) - other).abs().max() > 1e-4


@pytest.mark.slow
def test_a_threshold_per_label(cli: Cli, tmp_path: Path, photos: list[str]) -> None:
    save_checkpoint(tmp_path / "plain.ckpt", CLASSES, multi_label=True)
    values = probabilities(predicted(cli, tmp_path / "plain.ckpt", photos))
    logits = (values / (1 - values)).log()
    tempered = (logits / 2).sigmoid()
    thresholds = [float(tempered[:, 0].median()) + 1e-4, 0.0, 1.0]
    calibration = {"temperature": 2.0, "thresholds": thresholds}
    save_checkpoint(tmp_path / "x.ckpt", CLASSES, multi_label=True, calibration=calibration)
    rows = predicted(cli, tmp_path / "x.ckpt", photos)
    torch.testing.assert_close(probabilities(rows), tempered, rtol=1e-4, atol=1e-6)
    expected = [["bag"] * (value >= thresholds[0]) + ["coat"] for value in tempered[:, 0].tolist()]
    assert [row["labels"] for row in rows] == expected
    assert 0 < sum(len(one) == 2 for one in expected) < len(photos)
    found = load_classifier(tmp_path / "x.ckpt", "cpu").predict(photos)
    assert [one.label for one in found] == ["|".join(one) for one in expected]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The images are normalized with mean")  # weights of other images
def test_further_training_drops_it(
    cli: Cli, tmp_path: Path, make_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = make_folder(tmp_path / "data", {"train": 4, "val": 2})
    few = ["--data.batch_size", 4, "--model.drop_path", 0, "--trainer.accelerator", "cpu"]
    words = ["fit", *SMALL, *few, "--data.root", root]
    cli(*words, "--trainer.max_epochs", 1)
    first = tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt"
    torch.save(torch.load(first, weights_only=True) | {"calibration": {"temperature": 3.0}}, first)
    message = "The checkpoint's calibration is dropped, since its weights are trained further."
    assert message not in caplog.text
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", first)
    assert caplog.text.count(message) == 1
    content = torch.load(tmp_path / "runs/quickstart/version_1/checkpoints/last.ckpt", weights_only=True)
    assert content["epoch"] == 1
    assert "calibration" not in content
    assert load_task(first)[0].calibration == StoredCalibration(3.0)
    # weights alone have none
    cli(*words, "--trainer.max_epochs", 1, "--model.pretrained", first)
    assert caplog.text.count(message) == 1


def test_a_task_saves_what_it_loaded(tmp_path: Path) -> None:
    record = {"temperature": 1.5, "thresholds": [0.25, 0.5, 0.75]}
    save_checkpoint(tmp_path / "x.ckpt", CLASSES, multi_label=True, calibration=record)
    task = load_task(tmp_path / "x.ckpt")[0]
    assert task.calibration == StoredCalibration(1.5, [0.25, 0.5, 0.75])
    content: dict[str, Any] = {}
    task.on_save_checkpoint(content)
    assert content["calibration"] == record
    task.calibration = StoredCalibration()
    task.on_save_checkpoint(content := {})
    assert "calibration" not in content


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_conversion_keeps_it(tmp_path: Path) -> None:
    record = {"temperature": 2.5, "thresholds": None}
    task = save_checkpoint(tmp_path / "x.ckpt", CLASSES, calibration=record, ema_decay=0.5)
    convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    assert json.loads(metadata(tmp_path / "x.safetensors")["calibration"]) == record
    again = load_published(MICRO, str(tmp_path / "x.safetensors")).eval()
    assert again.calibration == StoredCalibration(2.5)
    assert again.class_names == CLASSES
    images = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores, logits = again.scores(again(images)), task(images)
    torch.testing.assert_close(scores, (logits / 2.5).softmax(dim=1), rtol=1e-4, atol=1e-6)
    # it was fitted to the averaged weights
    convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "raw.safetensors", "raw")
    assert "calibration" not in metadata(tmp_path / "raw.safetensors")
    save_checkpoint(tmp_path / "y.ckpt", CLASSES, calibration=record)
    convert_checkpoint(tmp_path / "y.ckpt", tmp_path / "y.safetensors", "raw")
    assert json.loads(metadata(tmp_path / "y.safetensors")["calibration"]) == record


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (3, "The calibration in {} is 3, not a temperature and thresholds; "),
        ({"temperature": 0}, "The calibration.temperature in {} is 0; it must be greater than 0 and finite. "),
        ({"temperature": -1.0}, "The calibration.temperature in {} is -1.0; it must be greater than 0 and finite. "),
        ({"temperature": math.nan}, "The calibration.temperature in {} is nan; it must be greater than 0 and finite. "),
        ({"temperature": math.inf}, "The calibration.temperature in {} is inf; it must be greater than 0 and finite. "),
        ({"temperature": True}, "The calibration.temperature in {} is True; it must be greater than 0 and finite. "),
        ({"temperature": "2"}, "The calibration.temperature in {} is '2'; it must be greater than 0 and finite. "),
        ({"thresholds": [0.5, 0.5]}, "The calibration.thresholds in {} are not 3 numbers from 0 to 1; "),
        ({"thresholds": [0.5, 0.5, 1.5]}, "The calibration.thresholds in {} are not 3 numbers from 0 to 1; "),
        ({"thresholds": [0.5, 0.5, math.nan]}, "The calibration.thresholds in {} are not 3 numbers from 0 to 1; "),
        ({"thresholds": [0.5, 0.5, None]}, "The calibration.thresholds in {} are not 3 numbers from 0 to 1; "),
        ({"thresholds": 0.5}, "The calibration.thresholds in {} are not 3 numbers from 0 to 1; "),
    ],
)
def test_a_broken_one_is_refused(tmp_path: Path, calibration: object, message: str) -> None:
    fix = "tore it again with evaluate, or use the original checkpoint."
    path = tmp_path / "x.ckpt"
    save_checkpoint(path, CLASSES, multi_label=True, calibration=calibration)
    for use in (load_classifier, lambda path: convert_checkpoint(path, tmp_path / "out.safetensors")):
        with pytest.raises(UserError) as error:
            use(path)
        assert str(error.value).startswith(message.format(path))
        assert str(error.value).endswith(fix)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.slow
def test_a_broken_one_is_refused_by_the_command_line(
    cli: Cli, tmp_path: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path / "x.ckpt", CLASSES, calibration={"temperature": 0})
    with pytest.raises(SystemExit) as exit_:
        predicted(cli, tmp_path / "x.ckpt", photos)
    assert exit_.value.code == 1
    assert capsys.readouterr().err == (
        "error: The calibration.temperature in the checkpoint is 0; it must be greater than 0 and finite. Store it "
        "again with evaluate, or use the original checkpoint.\n"
    )


@pytest.mark.parametrize("text", ["{", '{"temperature": NaN}', '{"temperature": "hot"}', "[1]"])
def test_broken_metadata_are_refused(tmp_path: Path, text: str) -> None:
    save_checkpoint(tmp_path / "x.ckpt", CLASSES)
    path = tmp_path / "x.safetensors"
    convert_checkpoint(tmp_path / "x.ckpt", path)
    save_file(load_file(path), path, metadata(path) | {"calibration": text})
    with pytest.raises(UserError, match=rf"^The calibration.* in {path} is "):
        load_published(MICRO, str(path))
