import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inceptionnext_lit.cli import main
from inceptionnext_lit.data.sources.raw_imagenet import refuse_raw_imagenet
from inceptionnext_lit.data.sources.splits import open_source
from inceptionnext_lit.errors import UserError
from tests.prepare.synthetic_imagenet import (
    CLASSES,
    LAYOUTS,
    Images,
    class_tars,
    synthetic_images,
    write,
    write_folders,
    write_kaggle,
    write_parquet,
    write_shard,
    write_tars,
)
from tests.small_checkpoint import save_checkpoint

WHAT = {
    "tars": "in tar files",
    "kaggle": "in Kaggle's folders",
    "flat_val": "with the validation images in one folder",
    "parquet": "in Hugging Face's Parquet files",
}


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("command", ["fit", "validate", "doctor"])
def test_commands_stop_with_the_command_to_type(
    command: str,
    layout: str,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = LAYOUTS[layout](tmp_path / "my source", images)
    save_checkpoint(tmp_path / "a.ckpt", list(CLASSES))
    monkeypatch.chdir(tmp_path)
    words = {
        "fit": ["fit", "--config", "finetune/folder", "--data.root", str(source)],
        "validate": ["validate", "--ckpt_path", "a.ckpt", "--data.root", str(source)],
        "doctor": ["doctor", str(source)],
    }
    with pytest.raises(SystemExit):
        main(words[command])
    [error] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{source} has ImageNet as it is distributed, {WHAT[layout]}, and not in class folders." in error
    assert f" prepare imagenet --source {shlex.quote(str(source))} --output imagenet and then use imagenet" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "my source"]


def test_the_command_in_the_message_names_a_folder_that_is_free(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tars(Path("source"), images)
    Path("imagenet").mkdir()
    with pytest.raises(
        UserError, match=r"prepare imagenet --source source --output imagenet_2 and then use imagenet_2"
    ):
        refuse_raw_imagenet(Path("source"))


def a_train_tar(root: Path, images: Images) -> Path:
    return write_tars(root, images) / "ILSVRC2012_img_train.tar"


def class_archives(root: Path, images: Images) -> Path:
    for name, content in class_tars(images).items():
        write(root / "train" / name, content)
    return root


def only_class_archives(root: Path, images: Images) -> Path:
    return class_archives(root, images) / "train"


def kaggle_below(root: Path, images: Images) -> Path:
    return write_kaggle(root, images) / "ILSVRC"


def kaggle_images(root: Path, images: Images) -> Path:
    return write_kaggle(root, images) / "ILSVRC" / "Data" / "CLS-LOC"


def a_shard(root: Path, images: Images) -> Path:
    return write_parquet(root, images) / "data" / "train-00000-of-00003.parquet"


def shards_by_their_number(root: Path, images: Images) -> Path:
    write(root / "data" / "train-00007-of-00294.parquet", b"not completely downloaded")
    return root


def the_cache_of_the_hub(root: Path, images: Images) -> Path:
    write_parquet(root / "snapshots" / "49e2ee26", images)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    return root


def with_macos_files(root: Path, images: Images) -> Path:
    write(root / "__MACOSX" / "x", b"x")
    write(root / ".DS_Store", b"x")
    write(root / "val" / "._ILSVRC2012_val_00000001.JPEG", b"x")
    return write_folders(root, images)


RAW = [
    a_train_tar, class_archives, only_class_archives, kaggle_below, kaggle_images, a_shard, shards_by_their_number,
    the_cache_of_the_hub, with_macos_files,
]  # fmt: skip


@pytest.mark.parametrize("arrange", RAW, ids=lambda arrange: arrange.__name__)
def test_parts_of_the_raw_layouts_are_recognized(
    arrange: Callable[[Path, Images], Path], images: Images, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="has ImageNet as it is distributed"):
        open_source(arrange(tmp_path / "source", images), multi_label=False)


def test_an_archive_of_fastai_is_recognized(tmp_path: Path) -> None:
    write(tmp_path / "imagewoof2-160.tgz", b"x")
    with pytest.raises(UserError, match="prepare imagewoof --source"):
        refuse_raw_imagenet(tmp_path / "imagewoof2-160.tgz")


# Folders that can be used.
def sorted_imagenet(root: Path, images: Images) -> Path:
    for place, content in images.items():
        write(root / place, content)
    return root


def sorted_next_to_its_archives(root: Path, images: Images) -> Path:
    """What torchvision's ImageNet leaves."""
    write_tars(root, images)
    write(root / "meta.bin", b"x")
    return sorted_imagenet(root, images)


def sorted_in_kaggles_folders(root: Path, images: Images) -> Path:
    shutil.rmtree(write_kaggle(root, images) / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    return sorted_imagenet(root / "ILSVRC" / "Data" / "CLS-LOC", images)


def only_train(root: Path, images: Images) -> Path:
    shutil.rmtree(write_folders(root, images) / "val")
    return root / "train"


def without_val(root: Path, images: Images) -> Path:
    shutil.rmtree(write_folders(root, images) / "val")
    return root


def without_val_next_to_archives(root: Path, images: Images) -> Path:
    return without_val(write_tars(root, images), images)


def own_classes(root: Path, images: Images) -> Path:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png", "ILSVRC/x.txt"):
        write(root / name, b"x")
    return root


def own_classes_with_names_of_imagenet(root: Path, images: Images) -> Path:
    for name in ("data/1.png", "snapshots/2.png", "blobs/3.png", "CLS-LOC/4.png"):
        write(root / name, b"x")
    return root


def many_class_folders(root: Path, images: Images) -> Path:
    for number in range(150):
        (root / f"class {number}").mkdir(parents=True)
    return root


def own_shards_next_to_classes(root: Path, images: Images) -> Path:
    write_shard(root / "data" / "train-00000-of-00002.parquet", [({"bytes": b"x", "path": "1.png"}, 0)])
    return own_classes(root, images)


FINE = [
    sorted_imagenet, sorted_next_to_its_archives, sorted_in_kaggles_folders, only_train, without_val,
    without_val_next_to_archives, own_classes, own_classes_with_names_of_imagenet, many_class_folders,
    own_shards_next_to_classes,
]  # fmt: skip


@pytest.mark.parametrize("arrange", FINE, ids=lambda arrange: arrange.__name__)
def test_other_folders_are_not_refused(arrange: Callable[[Path, Images], Path], images: Images, tmp_path: Path) -> None:
    source = open_source(arrange(tmp_path / "source", images), multi_label=False)
    assert len(source.classes()) in (2, 4, 20, 150)


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "labels.parquet"])
def test_other_parquet_files_are_not_refused(name: str, tmp_path: Path) -> None:
    write_shard(tmp_path / name, [({"bytes": b"x", "path": None}, 0)])
    refuse_raw_imagenet(tmp_path / name)
    refuse_raw_imagenet(tmp_path)


def test_few_files_are_looked_at(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images is not listed: ImageNet's has 1,000 classes of 1,300."""
    sorted_imagenet(tmp_path, images)
    seen: list[str] = []
    scandir = __import__("os").scandir
    monkeypatch.setattr("os.scandir", lambda path: seen.append(str(path)) or scandir(path))
    refuse_raw_imagenet(tmp_path)
    assert seen == [str(tmp_path), str(tmp_path / "train"), str(tmp_path / "val")]


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    for label in CLASSES[:2]:
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "train" / label / "1.png")
    assert open_source(tmp_path, multi_label=False).classes() == list(CLASSES[:2])
    write(tmp_path / ".prepare.json", b'{"name": "imagenet"}')
    with pytest.raises(UserError, match="is not completely prepared; give the prepare command that began it again"):
        open_source(tmp_path, multi_label=False)
