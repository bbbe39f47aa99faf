"""The line about the images that a command prints first, and which images an evaluation uses."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from inceptionnext_lit.cli.pretrained import describe_input, warn_of_shared_images
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA
from inceptionnext_lit.training.callbacks.settings import KEY as RUN
from tests.recipes import SMALL

Cli = Callable[..., None]
TRAIN = ["--trainer.max_epochs", 1, "--data.batch_size", 3, "--data.split.val_fraction", 0.5]


@pytest.fixture
def said(cli: Cli, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command; return its lines about the images."""

    def run(*words: object) -> list[str]:
        capsys.readouterr()
        cli(*words)
        return [line for line in capsys.readouterr().out.splitlines() if line[:12] in HEADS]

    return run


HEADS = ("Images:     ", "Not used:   ", "Ignored:    ")
BEST = "runs/quickstart/version_0/checkpoints/last.ckpt"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The checkpoint was trained on the images of")  # intended
def test_a_folder_without_splits(
    said: Callable[..., list[str]], tmp_path: Path, make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path / "photos", {".": 8})
    (tmp_path / "photos/bag/@eaDir/x.png").mkdir(parents=True)
    shutil.copy(next((tmp_path / "photos/bag").glob("*.png")), tmp_path / "photos/bag/@eaDir/x.png/SYNOPHOTO_M.png")
    assert said("fit", *SMALL, *TRAIN, "--data.root", "photos") == [
        "Images:     12 training images of 3 classes in photos/; 12 held back from the same folders for validation",
        "Ignored:    1 image in @eaDir (1)",
    ]
    # the run's own images: its own validation share, from any folder and for any default
    own = "Images:     12 images of 3 classes, held back from training, in {}/"
    for root in ("photos", tmp_path / "photos"):
        assert said("validate", "--ckpt_path", BEST, "--data.root", root)[0] == own.format(root)
    # other images: all of them
    shutil.copytree(tmp_path / "photos", tmp_path / "other/val")
    next((tmp_path / "other/val/bag").glob("*.png")).unlink()
    trained_on = f" (the checkpoint was trained on {tmp_path}/photos)"
    for command in ("validate", "test"):
        [line, ignored] = said(command, "--ckpt_path", BEST, "--data.root", "other/val")
        assert line == f"Images:     23 images of 3 classes in other/val/{trained_on}"
        assert ignored == "Ignored:    1 image in @eaDir (1)"
    assert said("predict", "other", "--ckpt_path", BEST) == ["Ignored:    1 image in @eaDir (1)"]
    with pytest.raises(SystemExit):
        said("test", "--ckpt_path", BEST, "--data.root", "photos")
    assert "No test split" in capsys.readouterr().err
    shutil.copytree(tmp_path / "photos", tmp_path / "alone/train")
    with pytest.raises(SystemExit):
        said("validate", "--ckpt_path", BEST, "--data.root", "alone")
    assert "No validation split: alone/val was not found" in capsys.readouterr().err


@pytest.mark.slow
def test_held_back_images_are_recognized_by_their_content(
    said: Callable[..., list[str]], tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    """They are not recognized by their path, and changed images are not recognized at all."""
    root = make_folder(tmp_path / "photos", {".": 8})
    said("fit", *SMALL, *TRAIN, "--data.root", root)
    moved = root.rename(tmp_path / "elsewhere")
    trained_on = f" (the checkpoint was trained on {tmp_path}/photos)"
    assert said("validate", "--ckpt_path", BEST, "--data.root", moved) == [
        f"Images:     12 images of 3 classes, held back from training, in {moved}/"
    ]
    moved.rename(root)
    for number, image in enumerate(sorted((root / "bag").iterdir())):
        image.rename(root / f"bag/renamed_{number * 37 % 97}.png")
    assert said("validate", "--ckpt_path", BEST, "--data.root", root) == [
        f"Images:     12 images of 3 classes in {root}/, which has changed since training: some of them may have been "
        "trained on"
    ]
    root.rename(moved)
    with pytest.warns(
        UserWarning, match=r"was trained on the images of coat, sandal, so these metrics will be too high"
    ):
        lines = said("validate", "--ckpt_path", BEST, "--data.root", moved)
    assert lines == [f"Images:     24 images of 3 classes in {moved}/{trained_on}"]


@pytest.mark.slow
def test_weights_trained_on_the_validation_images(
    said: Callable[..., list[str]], tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    root = make_folder(tmp_path / "photos", {".": 8})
    said("fit", *SMALL, *TRAIN, "--data.root", root)
    options = ["--model.pretrained", BEST, "--run_name", "second"]
    words = ["fit", *SMALL, *TRAIN, "--data.root", root, *options]
    said(*words)
    with pytest.warns(
        UserWarning, match=r"were trained on some of the validation images, so validation metrics will be too high"
    ):
        said(*words, "--data.split.seed", 1)
    teach = ["--model.distill.teacher", BEST, "--model.pretrained", "false", "--data.split.seed", 1]
    with pytest.warns(UserWarning, match=rf"^The teacher {BEST} was trained on some of the validation images, so"):
        said(*words, *teach)
    said("convert", BEST, "--output", "best.safetensors")
    options[1] = "best.safetensors"
    root.rename(moved := tmp_path / "moved")
    words = ["fit", *SMALL, *TRAIN, "--data.root", moved, *options]
    said(*words)
    with pytest.warns(UserWarning, match=r"^The weights in best\.safetensors were trained on some of the validation"):
        said(*words, "--data.split.seed", 1)


@pytest.mark.parametrize(
    ("root", "seen", "warns"),
    [
        ("photos", {"train": {"a": (3, 7)}, "val": {"a": (1, 5)}}, False),  # the same split
        ("photos", {"train": {"a": (3, 9)}, "val": {"a": (1, 3)}}, True),
        ("link", {"train": {"a": (3, 9)}, "val": {"a": (1, 4)}}, True),  # few-shot, in the same place
        ("elsewhere", {"train": {"a": (3, 9)}, "val": {"a": (1, 3)}}, True),  # the same images
        ("elsewhere", {"train": {"a": (3, 9)}, "val": {"a": (1, 4)}}, False),
        ("photos", {"train": {"a": (3, 9)}}, False),
        ("photos", {}, False),
    ],
)
@pytest.mark.parametrize("is_teacher", [False, True])
def test_weights_and_teachers_of_other_splits(
    root: str, seen: dict[str, Any], warns: bool, is_teacher: bool, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    path = str(tmp_path / "other.ckpt")
    torch.save({"state_dict": {}, DATA: seen, RUN: {"data.root": str(tmp_path / root)}}, path)
    now = {"train": {"a": (3, 7)}, "val": {"a": (1, 5)}}
    data = SimpleNamespace(holds_back=True, settings={"root": str(tmp_path / "photos")}, fingerprint=lambda: now)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_shared_images(*((None, path) if is_teacher else (path, None)), data)
        warn_of_shared_images(True, "resnet18", data)
    source = f"The teacher {path} was" if is_teacher else f"The weights in {path} were"
    message = (
        f"{source} trained on some of the validation images, so validation metrics will be too high. Use the same "
        "val_fraction, seed, num_folds and fold (data.split) as that run."
    )
    assert [str(one.message) for one in said] == [message] * warns
    data.holds_back = False
    warn_of_shared_images(path, path, data)


@pytest.mark.parametrize(
    ("stored", "warns"),
    [
        ('{"all": [4, 12], "val": [1, 5]}', False),
        ('{"all": [4, 12], "val": [1, 3]}', True),
        ('{"all": [4, 13], "val": [1, 3]}', False),  # other images
        ('{"val": [1, 3]}', False),
        ("[1]", False),
        ("sha256:1", False),  # another program's
        (None, False),
    ],
)
def test_converted_weights_of_other_splits(stored: str | None, warns: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "other.safetensors")
    save_file({"w": torch.ones(1)}, path, None if stored is None else {DATA: stored})
    now = {"train": {"a": (3, 7)}, "val": {"a": (1, 5)}}
    data = SimpleNamespace(holds_back=True, settings={"root": "photos"}, fingerprint=lambda: now)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_shared_images(path, None, data)
    assert len(said) == warns


def test_an_ignored_orientation_is_printed() -> None:
    shown = Preprocessing(image_size=28, crop_pct=1.0, interpolation="bicubic", mean=[0.5], std=[0.5], exif="ignore")
    assert describe_input(shown, "") == (
        "Input:      28 pixels, mean [0.5], std [0.5], interpolation bicubic, crop_pct 1.0, crop_mode center, EXIF "
        "orientation ignored"
    )


@pytest.mark.slow
def test_splits_under_other_names(
    said: Callable[..., list[str]], tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    make_folder(tmp_path / "made", {"train": 4, "val": 2, "test": 3})
    for name, other in {"train": "Training", "val": "VALID", "test": "testing"}.items():
        (tmp_path / "made" / name).rename(tmp_path / "made" / other)
    (tmp_path / "made" / "raw").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "made").rename(tmp_path / "archive/made")
    place = "archive/made"
    assert said("fit", *SMALL, *TRAIN, "--data.root", "archive") == [
        f"Images:     12 training images of 3 classes in {place}/Training/; {place}/VALID/: 6 for validation",
        "Not used:   raw/ next to the splits",
    ]
    assert said("validate", "--ckpt_path", BEST, "--data.root", "archive")[0] == (
        f"Images:     6 images of 3 classes in {place}/VALID/ (the checkpoint was trained on {tmp_path}/archive)"
    )
    assert said("test", "--ckpt_path", BEST, "--data.root", "archive")[0].startswith(
        f"Images:     9 images of 3 classes in {place}/testing/"
    )
    # the training split itself, without held-back images
    assert said("validate", "--ckpt_path", BEST, "--data.root", f"{place}/Training")[0].startswith(
        f"Images:     12 images of 3 classes in {place}/Training/"
    )
