import json
import os
import signal
from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet import Mode, prepare_imagenet
from inceptionnext_lit.prepare.prepare import Choices, prepare_dataset
from inceptionnext_lit.prepare.record import read_record
from inceptionnext_lit.prepare.workspace import claimed
from tests.forked import run_function
from tests.prepare.killed import prepare_until
from tests.prepare.synthetic_imagenet import LAYOUTS, ROW, Images, synthetic_images, tree

# the call before which a run is killed: renames of written files, links, moves, and the last steps
POINTS: dict[tuple[str, Mode], list[tuple[str, int]]] = {
    ("tars", "link"): [("os.replace", 5), ("os.replace", 40), ("os.rename", 2)],
    ("kaggle", "link"): [("os.symlink", 7), ("os.symlink", 30), ("shutil.rmtree", 1)],
    ("kaggle", "copy"): [("os.replace", 20), ("os.replace", 50), ("os.rename", 1)],
    ("kaggle", "move"): [("os.rename", 4), ("os.rename", 30), ("os.rename", 27)],
    ("flat_val", "move"): [("os.rename", 41), ("shutil.rmtree", 1)],
    ("parquet", "link"): [("os.replace", 3), ("os.replace", 60)],
}


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


@pytest.mark.parametrize(("layout", "mode"), POINTS)
def test_a_killed_run_is_continued(layout: str, mode: Mode, images: Images, tmp_path: Path) -> None:
    source, output = LAYOUTS[layout](tmp_path / "source", images), tmp_path / "out"
    for call, number in POINTS[layout, mode]:
        done = run_function(prepare_until, call, number, ROW, source, output, mode, cwd=tmp_path)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (output / "train").exists() or (output / "val").exists()
        finished = [path for path in output.rglob("*.JPEG") if not path.name.startswith(".")]
        assert all(path.read_bytes() == images["/".join(path.parts[-3:])] for path in finished)
    record = read_record(output) or prepare_imagenet("imagenet", source, output, mode, num_workers=2, row=ROW)
    assert record.splits == {"train": 80, "val": 40}
    assert read_record(output) == record
    assert tree(output) == images
    assert not [path for path in output.rglob("*") if path.name.endswith(".partial")]
    left = [path for path in source.rglob("*.JPEG") if "test" not in path.parts]
    assert len(left) == (0 if mode == "move" or layout in ("tars", "parquet") else 120)


@pytest.mark.parametrize("layout", ["kaggle", "flat_val"])
def test_a_run_that_was_stopped_before_the_check_finds_all_images_moved(
    layout: str, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = LAYOUTS[layout](tmp_path / "source", images), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("inceptionnext_lit.prepare.imagenet.preparing.take_inventory", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_imagenet("imagenet", source, output, "move", row=ROW)
    assert not [path for path in source.rglob("n*.JPEG")]
    prepare_imagenet("imagenet", source, output, "move", row=ROW)
    assert tree(output) == images


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_what_is_finished_is_not_written_again(images: Images, tmp_path: Path) -> None:
    source, output = LAYOUTS["tars"](tmp_path / "source", images), tmp_path / "out"
    done = run_function(prepare_until, "os.replace", 100, ROW, source, output, "copy", cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    written = {path.name: path.stat().st_mtime_ns for path in output.rglob("*.JPEG") if path.name[0] != "."}
    assert len(written) > 90
    prepare_imagenet("imagenet", source, output, "copy", num_workers=2, row=ROW)
    after = {path.name: path.stat().st_mtime_ns for path in output.rglob("*.JPEG")}
    assert {name: after[name] for name in written} == written


def test_an_unfinished_folder_has_no_splits_and_no_record(images: Images, tmp_path: Path) -> None:
    source, output = LAYOUTS["tars"](tmp_path / "source", images), tmp_path / "out"
    run_function(prepare_until, "os.replace", 100, ROW, source, output, "copy", cwd=tmp_path)
    assert [entry.name for entry in output.iterdir()] == [".unfinished"]
    assert read_record(output) is None


@pytest.mark.parametrize(
    ("mode", "subset", "message"),
    [
        ("copy", None, "was begun with --mode link, and not with --mode copy"),
        ("link", (5, 2), "was begun without --subset, and not with --subset 5,2"),
    ],
)
def test_other_options_do_not_continue_a_run(
    mode: Mode, subset: tuple[int, int] | None, message: str, images: Images, tmp_path: Path
) -> None:
    source, output = LAYOUTS["kaggle"](tmp_path / "source", images), tmp_path / "out"
    run_function(prepare_until, "os.symlink", 9, ROW, source, output, "link", cwd=tmp_path)
    with pytest.raises(UserError, match=message):
        prepare_imagenet("imagenet", source, output, mode, subset, row=ROW)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "out", "imagenet", None, overwrite=False),
        pytest.raises(UserError, match="Another process"),
    ):
        prepare_dataset("imagenet", tmp_path / "out", Choices(source=tmp_path))


def test_overwrite_never_deletes_moved_images(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", lambda name: ROW)
    source, output = LAYOUTS["kaggle"](tmp_path / "source", images), tmp_path / "out"
    prepare_dataset("imagenet", output, Choices(source=source, mode="move"))
    with pytest.raises(UserError, match="may be the only copy; --overwrite does not delete them"):
        prepare_dataset("imagenet", output, Choices(source=source, mode="move", overwrite=True))
    assert tree(output) == images


def test_a_full_disk_keeps_what_is_written(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", lambda name: ROW)
    source, output = LAYOUTS["tars"](tmp_path / "source", images), tmp_path / "out"
    replace = os.replace

    def full(old: str, new: str) -> None:
        if sum(1 for _ in output.rglob("*.JPEG")) >= 30 and str(new).endswith(".JPEG"):
            raise OSError(28, "No space left on device", None)
        replace(old, new)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"could not be written: No space left on device\. What is finished"):
        prepare_dataset("imagenet", output, Choices(source=source))
    assert sum(1 for _ in output.rglob("*.JPEG")) >= 30
    monkeypatch.setattr(os, "replace", replace)
    assert prepare_dataset("imagenet", output, Choices(source=source)).splits == {"train": 80, "val": 40}
    assert tree(output) == images


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = LAYOUTS["tars"](tmp_path / "source", images), tmp_path / "out"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 64 * 2**20})())
    with pytest.raises(UserError, match=r"needs 0.0 GiB and its disk has 0.1 GiB free"):
        prepare_imagenet("imagenet", source, output, row=ROW)
    assert not list(output.rglob("*.JPEG"))


def test_a_complete_folder_is_not_prepared_again(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inceptionnext_lit.prepare.imagenet.preparing.variant", lambda name: ROW)
    source, output = LAYOUTS["kaggle"](tmp_path / "source", images), tmp_path / "out"
    record = prepare_dataset("imagenet", output, Choices(source=source))
    assert json.loads((output / "dataset.json").read_text())["source"] == f"the folder {source}"
    assert prepare_dataset("imagenet", output, Choices(source=source)) == record
