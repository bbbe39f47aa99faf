"""NaN and Inf never become labels: images with outputs that are not finite, and NaN weights."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from inceptionnext_lit import load_classifier
from inceptionnext_lit.errors import UserError
from tests.recipes import SMALL

Cli = Callable[..., None]
FEW = ["--data.num_workers", "0", "--data.batch_size", "2"]
REASON = "the model's outputs for it are NaN or infinite"


@pytest.fixture
def overflowing(trained: Path, tmp_path: Path) -> Path:
    """Write a checkpoint with finite weights that overflows in its first layer, except on black images."""
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["data_spec"]["preprocessing"] |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    for name, tensor in checkpoint["state_dict"].items():
        if name.endswith("stem.weight") or name.endswith("stem.0.weight"):
            tensor *= 1e38
    torch.save(checkpoint, tmp_path / "overflowing.ckpt")
    return tmp_path / "overflowing.ckpt"


@pytest.fixture
def photos(sample: Path, tmp_path: Path) -> Path:
    """Write a black image and two others, as a validation and a test split of one class."""
    from PIL import Image

    folder = tmp_path / "data/val/bag"
    folder.mkdir(parents=True)
    first, second = sorted((sample / "val/bag").iterdir())[:2]
    shutil.copy(first, folder / "a.png")
    Image.new("L", (28, 28)).save(folder / "b.png")
    shutil.copy(second, folder / "c.png")
    shutil.copytree(folder, tmp_path / "data/test/bag")
    return tmp_path / "data"


@pytest.mark.parametrize(
    "suffix", [".csv", ".parquet", *(pytest.param(x, marks=pytest.mark.slow) for x in (".jsonl", ".json"))]
)
def test_predict_lists_images_that_overflow(
    cli: Cli, overflowing: Path, photos: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("predict", photos / "val", "--ckpt_path", overflowing, "--output", f"out{suffix}", *FEW)
    out = Path(f"out{suffix}")
    if suffix == ".parquet":
        paths = parquet.read_table(out)["path"].to_pylist()
    elif suffix == ".csv":
        paths = [row["path"] for row in csv.DictReader(out.read_text().splitlines())]
    else:
        text = out.read_text()
        assert "NaN" not in text
        found = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        paths = [row["path"] for row in found]
    assert paths == [str(photos / "val/bag/b.png")]
    with Path("out.unreadable.csv").open(newline="") as file:
        listed = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert listed == {str(photos / f"val/bag/{name}.png"): REASON for name in "ac"}
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"1 prediction written to out{suffix}",
        "2 images got NaN or infinite outputs: see out.unreadable.csv",
    ]


@pytest.mark.slow
def test_predict_without_any_finite_output(
    cli: Cli, overflowing: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "val/bag/b.png").write_text("no image")
    with pytest.raises(SystemExit) as exit_:
        cli("predict", photos / "val", "--ckpt_path", overflowing, "--output", "out.json", *FEW)
    assert exit_.value.code == 1
    assert "error: None of 3 images got a prediction; out.unreadable.csv lists the reasons." in capsys.readouterr().err
    assert not Path("out.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_an_evaluation_names_images_that_overflow(
    cli: Cli, overflowing: Path, photos: Path, command: str, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli(command, "--ckpt_path", overflowing, "--data.root", photos, *FEW)
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    place = photos / split / "bag"
    assert f"for 2 of 3 images ({split}), first {place / 'a.png'}, {place / 'c.png'}. Check these" in printed.err
    assert "acc1" not in printed.out


def test_the_classifier_names_images_that_overflow(overflowing: Path, photos: Path) -> None:
    classifier = load_classifier(overflowing, device="cpu")
    a, b, c = (str(photos / f"val/bag/{name}.png") for name in "abc")
    [prediction] = classifier.predict(b)
    assert 0 < prediction.probability <= 1
    with pytest.raises(UserError, match=rf"outputs are NaN or infinite for {a}, {c}\. Check"):
        classifier.predict([a, b, c])
    pixels = torch.full((3, 28, 28), 255, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"outputs are NaN or infinite for image 3\."):
        classifier.predict([b, torch.zeros_like(pixels), pixels], batch_size=2)


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        (float("nan"), "model."),
        (float("inf"), "model_ema."),
        pytest.param(float("nan"), "model_ema.", marks=pytest.mark.slow),
        pytest.param(float("inf"), "model.", marks=pytest.mark.slow),
    ],
)
def test_nan_weights(
    cli: Cli, trained: Path, tmp_path: Path, prefix: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.startswith(prefix))
    checkpoint["state_dict"][name][0, 0, 0, 0] = value
    path = tmp_path / "broken.ckpt"
    torch.save(checkpoint, path)
    expected = f"{path} contains NaN or infinite values in {name}; use an earlier checkpoint."
    commands: list[list[object]] = [
        *([command, "--ckpt_path", path, "--data.root", "sample"] for command in ("validate", "test")),
        ["predict", "sample", "--ckpt_path", path],
        ["fit", *SMALL, "--trainer.max_epochs", 9, "--ckpt_path", path],
        ["convert", path, "--output", "out.safetensors"],
        ["convert", path, "--output", "out.safetensors", "--weights", "raw"],
    ]
    before = sorted(tmp_path.rglob("*"))
    for words in commands:
        with pytest.raises(SystemExit) as exit_:
            cli(*words)
        assert exit_.value.code == 1
        assert expected in capsys.readouterr().err
    with pytest.raises(UserError, match="contains NaN or infinite values"):
        load_classifier(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_the_newest_good_checkpoint_is_continued(
    cli: Cli, make_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", {"train": 8, "val": 3})
    words = ["fit", *SMALL, "--data.root", root, "--data.batch_size", 6, "--trainer.max_epochs", 1]
    cli(*words)
    last = Path("runs/quickstart/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).fill_(float("nan"))
    torch.save(checkpoint, last)
    capsys.readouterr()
    cli(*words, "--trainer.max_epochs", 2, "--ckpt_path", "last")
    printed = capsys.readouterr().out
    assert f"Not used:   The checkpoint {last} contains NaN or infinite values in model.stem" in printed
    assert f"Continues:  {last.with_name('best.ckpt')} after step 4" in printed
