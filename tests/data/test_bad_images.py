"""Images that cannot be read: found before a run, or skipped in it and listed."""

import csv
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from PIL import Image

from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data.decode.bad_images import BadImageOptions, BadImages
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.errors import UserError

BROKEN = b"no image"


def colors(root: Path, names: str = "a b", count: int = 10) -> Path:
    for name in names.split():
        (root / name).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", (8, 8), (25 * n, 0, 0)).save(root / name / f"{n}.png")
    return root


def build(root: Path, **options: Any) -> ImageFolderDataModule:
    settings: dict[str, Any] = {"image_size": 8, "batch_size": 2, "num_workers": 0, "augmentation": "none"}
    return ImageFolderDataModule(str(root), **(settings | options))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def test_a_file_that_is_not_an_image_stops_a_run_before_it_starts(tmp_path: Path) -> None:
    root = colors(tmp_path)
    (root / "a/1.png").write_bytes(BROKEN)
    (root / "b/2.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"^2 images cannot be read: .*image \S+a/1\.png: .*b/2\.png") as e:
        build(root).setup("fit")
    assert "doctor" in str(e.value)
    assert "--data.bad_images.action skip" in str(e.value)


def test_skipping_uses_the_next_image_and_lists_the_bad_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = colors(tmp_path / "train").parent
    colors(tmp_path / "val", count=1)
    truncate(root / "train/a/4.png")
    data = build(root, bad_images=BadImageOptions(action="skip"), input=InputOptions(mean=[0, 0, 0], std=[1, 1, 1]))
    data.setup("fit")
    loader = data.train_dataloader()
    with pytest.warns(UserWarning, match=r"Skipped in training: Cannot read the image .*a/4\.png") as warned:
        drawn = [batch for _ in range(3) for batch in loader]
    assert len(drawn) == 3 * 10
    assert len(warned) == 1
    with open("bad_images.csv", newline="") as file:
        [row] = list(csv.DictReader(file))
    assert row["path"] == str(root / "train/a/4.png")
    assert row["reason"].startswith("Cannot read the image")
    fours, fives = data.train_set[4], data.train_set[5]
    torch.testing.assert_close(fours[0], fives[0])


@pytest.mark.slow
def test_held_back_images_can_be_read(tmp_path: Path) -> None:
    root = colors(tmp_path)
    whole = build(root, bad_images=BadImageOptions(action="skip"))
    whole.setup("fit")
    held = whole.val_set.samples[0].path
    truncate(Path(held))
    for stage in ("fit", "validate"):
        data = build(root, bad_images=BadImageOptions(action="skip"))
        data.setup(stage)
        assert [s.path for s in data.val_set.samples] == [s.path for s in whole.val_set.samples[1:]]
    data = build(root, bad_images=BadImageOptions(action="skip"))
    data.setup("fit")
    assert data.train_set.samples[-1].path == held
    strict = build(root)
    strict.setup("validate")
    with pytest.raises(UserError, match="Cannot read the image"):
        list(strict.val_dataloader())


def test_an_evaluation_skips_nothing(tmp_path: Path) -> None:
    colors(tmp_path / "train")
    colors(tmp_path / "val")
    colors(tmp_path / "test")
    truncate(tmp_path / "val/b/3.png")
    truncate(tmp_path / "test/b/3.png")
    with pytest.raises(UserError, match=r"^1 validation image cannot be read, and .* does not skip images: .*b/3\.png"):
        build(tmp_path, bad_images=BadImageOptions(action="skip")).setup("fit")
    data = build(tmp_path, bad_images=BadImageOptions(action="skip"))
    data.setup("test")
    with pytest.raises(UserError, match=r"Cannot read the image .*test/b/3\.png"):
        list(data.test_dataloader())


def test_the_cap(tmp_path: Path) -> None:
    bad = BadImages(1, tmp_path / "list.csv")
    other_process = BadImages(1, tmp_path / "list.csv")
    with pytest.warns(UserWarning, match="Skipped"):
        bad.note("a\nb.jpg", ValueError('odd, "reason"'))
    other_process.note("a\nb.jpg", ValueError("seen before: no warning"))
    with (
        pytest.warns(UserWarning, match="Skipped"),
        pytest.raises(UserError, match=r"^More than 1 training image cannot be read .*listed in .*list\.csv"),
    ):
        other_process.note("c.jpg", ValueError("again"))
    assert bad.read() == ["a\nb.jpg", "c.jpg"]


def test_only_bad_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    colors(tmp_path / "val")
    colors(tmp_path / "train", count=2)
    for path in (tmp_path / "train").rglob("*.png"):
        truncate(path)
    data = build(tmp_path, bad_images=BadImageOptions(action="skip"))
    data.setup("fit")
    with pytest.warns(UserWarning, match="Skipped"), pytest.raises(UserError, match="None of the training images"):
        list(data.train_dataloader())


def test_an_image_that_two_processes_find_at_once_is_listed_once(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    ours = BadImages(10)
    ours.begin(tmp_path)
    assert ours.path is not None
    with ours.path.open("a") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        waiting = Thread(target=ours.note, args=("a.jpg", OSError("broken")))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        theirs.write("path,reason\na.jpg,broken\n")
    waiting.join(10)
    assert ours.path.read_text() == "path,reason\na.jpg,broken\n"
    with pytest.warns(UserWarning, match=r"^Skipped in training: empty$"):
        BadImages(10, ours.path).note("b.jpg", OSError("empty"))
    assert ours.read() == ["a.jpg", "b.jpg"]
    assert ours.path.read_text().splitlines() == ["path,reason", "a.jpg,broken", "b.jpg,empty"]
