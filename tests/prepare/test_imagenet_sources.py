"""Sources as other people's tools and downloads leave them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.imagenet import prepare_imagenet
from inceptionnext_lit.prepare.record import DatasetRecord, read_record
from tests.prepare.synthetic_imagenet import (
    CLASSES,
    DEVKIT,
    LAYOUTS,
    ROW,
    Images,
    class_tars,
    devkit_files,
    kaggle_csv,
    split_of,
    synthetic_images,
    tar_of,
    tree,
    write,
    write_flat_val,
    write_folders,
    write_kaggle,
    write_parquet,
    write_shard,
    write_tars,
)

DATA = Path("ILSVRC", "Data", "CLS-LOC")
FIRST, SECOND = CLASSES[:2]


@pytest.fixture(scope="module")
def images() -> Images:
    return synthetic_images()


def prepare(source: Path, output: Path, **options: object) -> DatasetRecord:
    return prepare_imagenet("imagenet", source, output, num_workers=2, row=ROW, **options)  # type: ignore[arg-type]


# How a source is changed, and what is then said about it.
def devkit_missing(root: Path, images: Images) -> str:
    (write_tars(root, images) / f"{DEVKIT}.tar.gz").unlink()
    return "no file tells their classes: put ILSVRC2012_devkit_t12.tar.gz"


def train_tar_missing(root: Path, images: Images) -> str:
    (write_tars(root, images) / "ILSVRC2012_img_train.tar").unlink()
    return "has no ILSVRC2012_img_train.tar with the training images; download it from image-net.org too."


def val_tar_missing(root: Path, images: Images) -> str:
    (write_tars(root, images) / "ILSVRC2012_img_val.tar").unlink()
    return "has no ILSVRC2012_img_val.tar with the validation images; download it from image-net.org too."


def val_tar_unfinished(root: Path, images: Images) -> str:
    val = write_tars(root, images) / "ILSVRC2012_img_val.tar"
    val.rename(val.with_name("ILSVRC2012_img_val.tar.part"))
    return "has ILSVRC2012_img_val.tar.part, an unfinished download; finish it first."


def train_tar_truncated(root: Path, images: Images) -> str:
    train = write_tars(root, images) / "ILSVRC2012_img_train.tar"
    train.write_bytes(train.read_bytes()[:100_000])
    return "ILSVRC2012_img_train.tar is broken or not completely downloaded (unexpected end of data); download it again"


def train_tar_is_a_page(root: Path, images: Images) -> str:
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", b"<html>Please log in</html>" * 100)
    return "ILSVRC2012_img_train.tar is broken or not completely downloaded"


def class_tar_truncated(root: Path, images: Images) -> str:
    tars = class_tars(images)
    tars[f"{FIRST}.tar"] = tars[f"{FIRST}.tar"][:1200]
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", tar_of(tars))
    return "ILSVRC2012_img_train.tar is broken or not completely downloaded (unexpected end of data"


def class_missing_in_tar(root: Path, images: Images) -> str:
    tars = class_tars(images)
    del tars[f"{FIRST}.tar"]
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", tar_of(tars))
    return f"train has 19 of 20 classes (without {FIRST}). Add what is missing"


def image_missing_in_tar(root: Path, images: Images) -> str:
    place = next(place for place in images if place.startswith(f"train/{FIRST}"))
    tars = class_tars({name: content for name, content in images.items() if name != place})
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", tar_of(tars))
    return f"train has 79 of 80 images ({FIRST}: 3 of 4). Add what is missing"


def image_twice_in_tar(root: Path, images: Images) -> str:
    tars = class_tars(images)
    tars[f"{FIRST}.tar"] = tars[f"{FIRST}.tar"][:1536] + tars[f"{FIRST}.tar"]
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", tar_of(tars))
    return "twice; download it again."


def images_not_in_class_tars(root: Path, images: Images) -> str:
    flat = {f"{wnid}/{name}": content for (wnid, name), content in split_of(images, "train").items()}
    write(write_tars(root, images) / "ILSVRC2012_img_train.tar", tar_of(flat))
    return "instead of a tar file for each class; it is not ImageNet's archive of training images."


def devkit_of_another_year(root: Path, images: Images) -> str:
    files = devkit_files(images)
    truth = f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"
    files[truth] = files[truth][:60]
    write(write_tars(root, images) / f"{DEVKIT}.tar.gz", tar_of(files, "w:gz"))
    return "has no class for"


def devkit_truncated(root: Path, images: Images) -> str:
    devkit = write_tars(root, images) / f"{DEVKIT}.tar.gz"
    devkit.write_bytes(devkit.read_bytes()[:700])
    return f"{DEVKIT}.tar.gz is broken"


def meta_missing(root: Path, images: Images) -> str:
    (write_flat_val(root, images) / DEVKIT / "data" / "meta.mat").unlink()
    return "but not meta.mat, which tells the classes of its numbers"


def csv_missing(root: Path, images: Images) -> str:
    (write_kaggle(root, images) / "LOC_val_solution.csv").unlink()
    return "or Kaggle's LOC_val_solution.csv, next to them."


def csv_of_another_data_set(root: Path, images: Images) -> str:
    write(write_kaggle(root, images) / "LOC_val_solution.csv", b"id,label\n1,cat\n")
    return "does not have the labels of ILSVRC 2012's validation images: its columns are id, label."


def csv_of_training_images(root: Path, images: Images) -> str:
    rows = f"ImageId,PredictionString\n{FIRST}_10026,{FIRST} 1 2 3 4\n"
    write(write_kaggle(root, images) / "LOC_val_solution.csv", rows.encode())
    return f"it has the image '{FIRST}_10026' of class '{FIRST}'."


def csv_with_other_classes(root: Path, images: Images) -> str:
    write(write_kaggle(root, images) / "LOC_val_solution.csv", kaggle_csv(images).replace(FIRST.encode(), b"n99999999"))
    return "1 class that is not among the 20 of ImageNet: n99999999."


def csv_is_empty(root: Path, images: Images) -> str:
    write(write_kaggle(root, images) / "LOC_val_solution.csv", b"ImageId,PredictionString\n")
    return "it has no rows"


def swapped_csv(images: Images) -> bytes:
    """Return Kaggle's CSV with the classes of two pairs of images exchanged."""
    swaps = {FIRST: SECOND, SECOND: FIRST}
    val = [place.split("/") for place in images if place.startswith("val/")]
    rows = [f"{name[:-5]},{swaps.get(wnid, wnid)} 1 2 3 4\n" for _, wnid, name in val]
    return ("ImageId,PredictionString\n" + "".join(rows)).encode()


def csv_and_devkit_disagree(root: Path, images: Images) -> str:
    write(write_flat_val(root, images) / "LOC_val_solution.csv", swapped_csv(images))
    first = min(name for wnid, name in split_of(images, "val") if wnid in (FIRST, SECOND))
    return (
        f"{root}/{DEVKIT}/data and {root}/LOC_val_solution.csv give different classes to 4 validation images, such as "
        f"{first[:-5]}; remove the wrong one."
    )


def csv_and_packed_devkit_disagree(root: Path, images: Images) -> str:
    write(write_tars(root, images) / "LOC_val_solution.csv", swapped_csv(images))
    return f"{DEVKIT}.tar.gz and {root}/LOC_val_solution.csv give different classes to 4 validation images"


def devkit_of_kaggle_disagrees(root: Path, images: Images) -> str:
    write(write_kaggle(root, images) / "LOC_val_solution.csv", swapped_csv(images))
    write(root / DATA / f"{DEVKIT}.tar.gz", tar_of(devkit_files(images), "w:gz"))
    return (
        f"{root}/LOC_val_solution.csv and {root / DATA}/{DEVKIT}.tar.gz give different classes to 4 validation images"
    )


def one_class_too_many(root: Path, images: Images) -> str:
    shutil.copytree(write_kaggle(root, images) / DATA / "train" / FIRST, root / DATA / "train" / "n99999999")
    return "train has 1 class that is not among the 20 of ImageNet: n99999999. Move them elsewhere"


def one_class_missing(root: Path, images: Images) -> str:
    shutil.rmtree(write_kaggle(root, images) / DATA / "train" / FIRST)
    return f"train has 19 of 20 classes (without {FIRST})"


def training_images_missing(root: Path, images: Images) -> str:
    for path in list((write_kaggle(root, images) / DATA / "train" / FIRST).iterdir())[:2]:
        path.unlink()
    return (
        f"train has 78 of 80 images ({FIRST}: 2 of 4). Add what is missing, then give the same command again, or take"
    )


def validation_image_missing(root: Path, images: Images) -> str:
    (write_kaggle(root, images) / DATA / "val" / "ILSVRC2012_val_00000007.JPEG").unlink()
    return "val has 39 of 40 images (without ILSVRC2012_val_00000007.JPEG)"


def an_empty_image(root: Path, images: Images) -> str:
    write(next((write_kaggle(root, images) / DATA / "train" / FIRST).iterdir()), b"")
    return "1 image is empty or cannot be found (train/"


def another_image_in_a_class(root: Path, images: Images) -> str:
    write(write_kaggle(root, images) / DATA / "train" / FIRST / "my cat.png", b"cat")
    return "has 1 image that by name is not of ImageNet, such as my cat.png."


def image_in_the_wrong_class(root: Path, images: Images) -> str:
    path = next((write_kaggle(root, images) / DATA / "train" / FIRST).iterdir())
    path.rename(root / DATA / "train" / SECOND / path.name)
    return f"is an image of the class {FIRST}, by its name; put it in its folder."


def two_images_of_one_name(root: Path, images: Images) -> str:
    path = next((write_kaggle(root, images) / DATA / "train" / FIRST).iterdir())
    write(path.with_suffix(".jpg"), b"another image")
    return "are different images of the same name"


def half_sorted_val(root: Path, images: Images) -> str:
    val = write_folders(root, images) / "val"
    (val / FIRST).mkdir()
    (val / "ILSVRC2012_val_00000001.JPEG").rename(val / FIRST / "ILSVRC2012_val_00000001.JPEG")
    return "has class folders and 39 images next to them"


def no_train(root: Path, images: Images) -> str:
    shutil.rmtree(write_folders(root, images) / "train")
    return "has no training images of ImageNet (it has val). Give the tar files of ILSVRC 2012"


def flat_train(root: Path, images: Images) -> str:
    for (_, name), content in split_of(images, "train").items():
        write(root / "train" / name, content)
    (root / "val").mkdir()
    return "train has no class folders such as n01440764"


def other_pictures(root: Path, images: Images) -> str:
    for name in ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"):
        write(root / name, b"picture")
    return "has 2 classes that are not among the 20 of ImageNet: cat, dog."


def nothing(root: Path, images: Images) -> str:
    root.mkdir()
    return "has no training images of ImageNet (it is empty)."


def shard_missing(root: Path, images: Images) -> str:
    (write_parquet(root, images) / "data" / "train-00001-of-00003.parquet").unlink()
    return "lacks 1 of 3 shards of the split train: train-00001-of-00003.parquet. Download what is missing"


def no_validation_shards(root: Path, images: Images) -> str:
    (write_parquet(root, images) / "data" / "validation-00000-of-00001.parquet").unlink()
    return "has no shards of the split validation"


def shard_truncated(root: Path, images: Images) -> str:
    shard = write_parquet(root, images) / "data" / "train-00002-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    return "train-00002-of-00003.parquet is broken or not completely downloaded"


def shard_is_a_pointer(root: Path, images: Images) -> str:
    write(write_parquet(root, images) / "data" / "train-00002-of-00003.parquet", b"version https://git-lfs.github.com/")
    return "train-00002-of-00003.parquet is broken or not completely downloaded"


def shard_of_another_data_set(root: Path, images: Images) -> str:
    shard = write_parquet(root, images) / "data" / "train-00002-of-00003.parquet"
    write_shard(shard, [({"bytes": b"x", "path": "cat_1.jpg"}, 0)])
    return "is not of ILSVRC/imagenet-1k as Hugging Face has it: a row's image.path is cat_1.jpg."


def shard_with_other_labels(root: Path, images: Images) -> str:
    shard = write_parquet(root, images) / "data" / "train-00002-of-00003.parquet"
    write_shard(shard, [({"bytes": b"x", "path": f"{FIRST}_1_{FIRST}.JPEG"}, 1)])
    return f"has the label of {SECOND}."


def two_downloads(root: Path, images: Images) -> str:
    write_parquet(root / "snapshots" / "a", images)
    write_parquet(root / "snapshots" / "b", images)
    return "are the same shard; remove one, or name the folder of one download."


def row_twice(root: Path, images: Images) -> str:
    shutil.copy(*[write_parquet(root, images) / "data" / f"train-0000{n}-of-00003.parquet" for n in (0, 1)])
    return "and again in"


WRONG: list[Callable[[Path, Images], str]] = [
    devkit_missing, train_tar_missing, val_tar_missing, val_tar_unfinished, train_tar_truncated, train_tar_is_a_page,
    class_tar_truncated, class_missing_in_tar, image_missing_in_tar, image_twice_in_tar, images_not_in_class_tars,
    devkit_of_another_year, devkit_truncated, meta_missing, csv_missing, csv_of_another_data_set,
    csv_of_training_images, csv_with_other_classes, csv_is_empty,
    csv_and_devkit_disagree, csv_and_packed_devkit_disagree, devkit_of_kaggle_disagrees,
    one_class_too_many, one_class_missing,
    training_images_missing, validation_image_missing, an_empty_image, another_image_in_a_class,
    image_in_the_wrong_class, two_images_of_one_name, half_sorted_val, no_train, flat_train, other_pictures, nothing,
    shard_missing, no_validation_shards, shard_truncated, shard_is_a_pointer, shard_of_another_data_set,
    shard_with_other_labels, two_downloads, row_twice,
]  # fmt: skip


@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
def test_a_wrong_source_is_refused(spoil: Callable[[Path, Images], str], images: Images, tmp_path: Path) -> None:
    message = spoil(tmp_path / "source", images)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        prepare(tmp_path / "source", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "source") in str(caught.value)
    assert read_record(tmp_path / "out") is None
    assert not (tmp_path / "out" / "train").exists()


# What is not wrong.
def with_macos_files(root: Path, images: Images) -> None:
    write_kaggle(root, images)
    write(root / "__MACOSX" / "ILSVRC" / "._Data", b"x")
    write(root / ".DS_Store", b"x")
    for folder in (root / DATA, root / DATA / "train", root / DATA / "val", root / DATA / "train" / FIRST):
        write(folder / ".DS_Store", b"x")
        write(folder / f"._{FIRST}_1.JPEG", b"x")


def with_macos_files_in_tars(root: Path, images: Images) -> None:
    write_tars(root, images)
    tars = class_tars(images)
    tars = {f"._{FIRST}.tar": b"x", **tars, "__MACOSX/._x.tar": b"x", ".DS_Store": b"x"}
    write(root / "ILSVRC2012_img_train.tar", tar_of(tars))
    val = {f"./{name}": content for (_, name), content in split_of(images, "val").items()}
    write(root / "ILSVRC2012_img_val.tar", tar_of({"./._ILSVRC2012_val_00000001.JPEG": b"x", **val}))


def with_other_suffixes(root: Path, images: Images) -> None:
    for path in [*write_flat_val(root, images).rglob("*.JPEG")]:
        path.rename(path.with_suffix(".jpeg" if path.stem.endswith(("1", "3", "5")) else ".jpg"))


def with_a_copy_under_another_suffix(root: Path, images: Images) -> None:
    path = next((write_kaggle(root, images) / DATA / "train" / FIRST).iterdir())
    shutil.copy(path, path.with_suffix(".jpeg"))


def with_unpacked_class_tars(root: Path, images: Images) -> None:
    write_tars(root, images)
    (root / "ILSVRC2012_img_train.tar").unlink()
    for name, content in class_tars(images).items():
        write(root / "train" / name, content)


def with_train_folder_and_val_tar(root: Path, images: Images) -> None:
    write_tars(root, images)
    (root / "ILSVRC2012_img_train.tar").unlink()
    for (wnid, name), content in split_of(images, "train").items():
        write(root / "train" / wnid / name, content)


def with_val_in_class_folders(root: Path, images: Images) -> None:
    for place, content in images.items():
        write(root / place, content)


def with_names_of_hugging_face(root: Path, images: Images) -> None:
    for (wnid, name), content in split_of(images, "val").items():
        write(root / "val" / f"{name[:-5]}_{wnid}.JPEG", content)
    for (wnid, name), content in split_of(images, "train").items():
        write(root / "train" / wnid / f"{name[:-5]}_{wnid}.JPEG", content)


def with_a_validation_folder(root: Path, images: Images) -> None:
    write_flat_val(root, images)
    (root / "val").rename(root / "validation")


def with_both_files_of_labels(root: Path, images: Images) -> None:
    write(write_flat_val(root, images) / "LOC_val_solution.csv", kaggle_csv(images))
    write(root / f"{DEVKIT}.tar.gz", tar_of(devkit_files(images), "w:gz"))


def with_links(root: Path, images: Images) -> None:
    real = write_kaggle(root.with_name("real"), images)
    root.mkdir()
    for name in ("ILSVRC", "LOC_val_solution.csv"):
        (root / name).symlink_to(real / name)


def with_linked_images(root: Path, images: Images) -> None:
    write_flat_val(root.with_name("real"), images)
    for path in [*root.with_name("real").rglob("*.JPEG")]:
        link = root / path.relative_to(root.with_name("real"))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    shutil.copytree(root.with_name("real") / DEVKIT, root / DEVKIT)


def with_a_cache_of_the_hub(root: Path, images: Images) -> None:
    real = write_parquet(root / "blobs", images)
    data = root / "snapshots" / "49e2ee26f3810fb5a7536bbf732a7b07389a47b5" / "data"
    data.mkdir(parents=True)
    for number, shard in enumerate(sorted((real / "data").iterdir())):
        shard.rename(root / "blobs" / f"{number:064}")
        (data / shard.name).symlink_to(Path("..", "..", "..", "blobs", f"{number:064}"))


FINE: list[Callable[[Path, Images], None]] = [
    with_macos_files, with_macos_files_in_tars, with_other_suffixes, with_a_copy_under_another_suffix,
    with_unpacked_class_tars, with_train_folder_and_val_tar, with_val_in_class_folders, with_names_of_hugging_face,
    with_a_validation_folder, with_both_files_of_labels, with_links, with_linked_images, with_a_cache_of_the_hub,
]  # fmt: skip


@pytest.mark.parametrize("vary", FINE, ids=lambda vary: vary.__name__)
def test_a_varied_source_becomes_the_same_folder(
    vary: Callable[[Path, Images], None], images: Images, tmp_path: Path
) -> None:
    vary(tmp_path / "source", images)
    prepare(tmp_path / "source", tmp_path / "out")
    assert tree(tmp_path / "out") == images


@pytest.mark.parametrize("vary", [with_links, with_linked_images, with_macos_files, with_other_suffixes])
def test_a_varied_source_is_moved(vary: Callable[[Path, Images], None], images: Images, tmp_path: Path) -> None:
    vary(tmp_path / "source", images)
    prepare(tmp_path / "source", tmp_path / "out", mode="move")
    assert tree(tmp_path / "out") == images


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("tars", "ILSVRC2012_img_train.tar"),
        ("tars", f"{DEVKIT}.tar.gz"),
        ("kaggle", "LOC_val_solution.csv"),
        ("kaggle", "ILSVRC"),
        ("kaggle", "ILSVRC/Data"),
        ("kaggle", "ILSVRC/Data/CLS-LOC"),
        ("parquet", "data"),
        ("parquet", "data/train-00000-of-00003.parquet"),
    ],
)
def test_a_part_of_the_source_may_be_named(layout: str, named: str, images: Images, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "source", images)
    prepare(source / named, tmp_path / "out")
    assert tree(tmp_path / "out") == images


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet-object-localization-challenge.zip", "must be unpacked first: unzip"),
        ("imagenet_object_localization_patched2019.tar.gz", "must be unpacked first: tar -xf"),
        ("photo.jpg", "is not a file of ImageNet; give the tar files of ILSVRC 2012"),
    ],
)
def test_other_files_are_refused(name: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / name, b"x")
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / name, tmp_path / "out")


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The source .*nowhere does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "out")


def test_no_source_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"https://image-net\.org/download, Kaggle .* or Hugging Face"):
        prepare_imagenet("imagenet", None, tmp_path / "out")


@pytest.mark.parametrize("layout", ["tars", "parquet"])
def test_archives_cannot_be_moved(layout: str, images: Images, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "source", images)
    with pytest.raises(UserError, match="--mode move is for folders of images"):
        prepare(source, tmp_path / "out", mode="move")


def test_many_missing_images_are_listed_in_a_file(images: Images, tmp_path: Path) -> None:
    source = write_kaggle(tmp_path / "source", images)
    for number in range(1, 16):
        (source / DATA / "val" / f"ILSVRC2012_val_{number:08}.JPEG").unlink()
    with pytest.raises(UserError, match=r"and 5 more\); all are listed in .*missing\.txt"):
        prepare(source, tmp_path / "out")
    listed = (tmp_path / "out" / "missing.txt").read_text().splitlines()
    assert listed == [f"val/ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 16)]


def test_after_the_missing_images_were_added_the_same_command_ends_well(images: Images, tmp_path: Path) -> None:
    assert "3 of 4" in image_missing_in_tar(tmp_path / "source", images)
    with pytest.raises(UserError, match="79 of 80"):
        prepare(tmp_path / "source", tmp_path / "out")
    write_tars(tmp_path / "source", images)
    prepare(tmp_path / "source", tmp_path / "out")
    assert tree(tmp_path / "out") == images


@pytest.mark.parametrize("place", ["source/train", "source/val/out"])
def test_the_output_may_not_be_among_the_images(place: str, images: Images, tmp_path: Path) -> None:
    write_flat_val(tmp_path / "source", images)
    with pytest.raises(UserError, match="is inside a split of the source"):
        prepare(tmp_path / "source", tmp_path / place)


def test_the_output_may_be_next_to_the_archives(images: Images, tmp_path: Path) -> None:
    write_tars(tmp_path, images)
    prepare(tmp_path, tmp_path)
    assert tree(tmp_path) == images
