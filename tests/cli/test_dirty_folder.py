"""A folder with eight types of problems: fit trains on the readable images, and predict lists the others."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.folders import dirty_folder
from tests.recipes import SMALL

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped in training"),  # loader processes emit warnings too
]

BAD = {"train/cat/truncated.jpg", "train/cat/empty.jpg", "train/dog/text.jpg"}


def listed(path: Path, root: Path) -> set[str]:
    with path.open(newline="") as file:
        return {str(Path(row["path"]).relative_to(root)) for row in csv.DictReader(file)}


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_fit_skips_what_predict_lists(
    cli: Callable[..., None], tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    root = dirty_folder(tmp_path / "data")
    (root / "val/dog/text.jpg").rename(root / "train/dog/text.jpg")  # where skipping is allowed
    words = [*SMALL, "--data.root", root, "--data.num_workers", workers, "--trainer.max_epochs", 2]
    with pytest.raises(SystemExit) as exit_:
        cli("fit", *words)
    assert exit_.value.code == 1
    message = capfd.readouterr().err
    assert "2 images cannot be read" in message  # checking headers does not find more
    assert "--data.bad_images.action skip" in message
    cli("fit", *words, "--data.bad_images.action", "skip")
    run = tmp_path / "runs/quickstart/version_0"
    assert listed(run / "bad_images.csv", root) == BAD
    assert "Skipped:    3 unreadable images, listed in runs/quickstart/version_0/bad_images.csv" in (
        capfd.readouterr().out
    )
    cli("predict", root, "--ckpt_path", run / "checkpoints/best.ckpt", "--output", "labels.csv")
    assert listed(tmp_path / "labels.unreadable.csv", root) == BAD
    labeled = listed(tmp_path / "labels.csv", root)
    assert {"train/dog/print.jpg", "train/dog/deep.png", "train/bird/turned.jpg", "val/bird/copy.jpg"} <= labeled
    assert len(labeled) == 304


@pytest.mark.slow
def test_warning_of_skipped_images_is_one_sentence(
    shell: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    root = dirty_folder(tmp_path / "data")
    (root / "val/dog/text.jpg").unlink()
    words = [*SMALL, "--data.root", root, "--data.bad_images.action", "skip", "--trainer.max_epochs", 1]
    done = shell("fit", *words, "--trainer.limit_val_batches", 1)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "Skipped in training" in line]
    assert len(said) == 2
    assert all(line.startswith("warning: Skipped in training: Cannot read the image ") for line in said)
    assert "self.skip" not in done.stderr
