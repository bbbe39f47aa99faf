"""``validate`` and ``test``: the number of images, and the metrics as a JSON file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from inceptionnext_lit import load_classifier
from inceptionnext_lit.tasks import ClassificationTask
from tests.small_checkpoint import save_checkpoint

Cli = Callable[..., None]
CLASSES = ["bag", "coat", "sandal"]
FEW = ["--data.num_workers", 0, "--data.batch_size", 4, "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "x.ckpt", CLASSES, ema_decay=0.5)
    return tmp_path / "x.ckpt"


def table(out: str) -> dict[str, dict[str, str]]:
    """Return the printed values by split and name."""
    lines = [line.split() for line in out.splitlines()]
    head = next(place for place, words in enumerate(lines) if words[:1] == ["images"])
    rows = [words for words in lines[head + 1 :] if words and words[0] in ("val", "val_ema", "test", "test_ema")]
    return {name: dict(zip(lines[head], values, strict=True)) for name, *values in rows}


@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_folder_that_was_never_split_is_evaluated_whole(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = make_folder(tmp_path / "photos", {".": 7})
    name = {"validate": "val", "test": "test"}[command]
    cli(command, "--ckpt_path", checkpoint, "--data.root", root, "--output", "m.json", *FEW)
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"Images:     21 images of 3 classes in {root}/"
    assert out.splitlines()[-1] == "Metrics written to m.json"
    printed = table(out)
    assert sorted(printed) == [name, f"{name}_ema"]
    stored: dict[str, Any] = json.loads(Path("m.json").read_text())
    keys = [f"{split}/{key}" for split in (name, f"{name}_ema") for key in ("acc1", "acc5", "macro_acc", "loss")]
    assert sorted(stored) == sorted([*keys, "images", "root", "split", "checkpoint"])
    assert {key: stored[key] for key in ("images", "root", "split", "checkpoint")} == {
        "images": 21, "root": str(root), "split": "all", "checkpoint": str(checkpoint),
    }  # fmt: skip
    for split, values in printed.items():
        assert values.pop("images") == "21"
        assert values == {key: f"{stored[f'{split}/{key}']:.4f}" for key in ("acc1", "acc5", "macro_acc", "loss")}
    paths = sorted(root.rglob("*.png"))
    classifier = load_classifier(checkpoint, "cpu")
    images = torch.stack([classifier._transform(classifier._load(str(path))) for path in paths])
    labels = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    with torch.inference_mode():
        logits = classifier.task(classifier._to_input(images))
    assert stored[f"{name}/acc1"] == pytest.approx(float((logits.argmax(dim=1) == labels).float().mean()), abs=1e-7)
    loss = float(F.cross_entropy(logits, labels))
    assert stored[f"{name}/loss"] == pytest.approx(loss, rel=1e-5)
    assert stored[f"{name}/loss"] != round(stored[f"{name}/loss"], 4)


def test_splits(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "photos", {"train": 2, "val": 3, "test": 4})
    for command, split, images in (("validate", "val", 9), ("test", "test", 12)):
        cli(command, "--ckpt_path", checkpoint, "--data.root", root, "--output", f"{split}.json", *FEW)
        out = capsys.readouterr().out
        assert out.splitlines()[0] == f"Images:     {images} images of 3 classes in {root}/{split}/"
        assert {values["images"] for values in table(out).values()} == {str(images)}
        stored = json.loads(Path(f"{split}.json").read_text())
        assert (stored["split"], stored["images"]) == (split, images)
    limited = ["--trainer.limit_val_batches", 2, "--output", "limited.json"]
    cli("validate", "--ckpt_path", checkpoint, "--data.root", root, *limited, *FEW)
    assert table(capsys.readouterr().out)["val"]["images"] == "8"
    assert json.loads(Path("limited.json").read_text())["images"] == 8


@pytest.mark.slow
def test_without_an_output_nothing_is_written(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "photos", {".": 2})
    before = sorted(tmp_path.rglob("*"))
    cli("validate", "--ckpt_path", checkpoint, "--data.root", "photos", *FEW)
    assert table(capsys.readouterr().out)["val"]["images"] == "6"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_metric_that_is_not_a_number_is_null(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "photos", {".": 2})
    step = ClassificationTask.validation_step

    def log_nan(self: ClassificationTask, batch: Any, batch_idx: int) -> None:
        step(self, batch, batch_idx)
        self.log("val/odd", float("nan"), batch_size=1)

    monkeypatch.setattr(ClassificationTask, "validation_step", log_nan)
    cli("validate", "--ckpt_path", checkpoint, "--data.root", "photos", "--output", "new/m.json", *FEW)
    stored = json.loads(Path("new/m.json").read_text())
    assert stored["val/odd"] is None
    assert stored["val/acc5"] == 1.0


@pytest.mark.slow
def test_an_unsuitable_output_is_refused_before_anything_is_read(
    cli: Cli, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "old.json").write_text("{}\n")
    for command in ("validate", "test"):
        for output, message in (
            ("m.csv", "--output is m.csv; it must end in .json."),
            ("file/m.json", "--output file/m.json cannot be written: Not a directory; give another file."),
            ("folder.json", "--output folder.json cannot be written: Is a directory; give another file."),
            ("old.json", "old.json already exists; add --overwrite to replace it, or give another --output."),
        ):
            with pytest.raises(SystemExit) as exit_:
                cli(command, "--ckpt_path", checkpoint, "--data.root", "missing", "--output", output, *FEW)
            assert exit_.value.code == 1
            assert capsys.readouterr().err == f"error: {message}\n"
    assert (tmp_path / "old.json").read_text() == "{}\n"


@pytest.mark.slow
def test_an_output_is_replaced_on_request(
    cli: Cli, checkpoint: Path, tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    make_folder(tmp_path / "photos", {".": 2})
    Path("old.json").write_text("{}\n")
    cli("validate", "--ckpt_path", checkpoint, "--data.root", "photos", "--output", "old.json", "--overwrite", *FEW)
    assert json.loads(Path("old.json").read_text())["images"] == 6
