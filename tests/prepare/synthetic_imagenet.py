"""A small ImageNet in each of the layouts that people have it in."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet
from scipy.io import savemat

from inceptionnext_lit.data.class_words import imagenet_classes
from inceptionnext_lit.prepare.imagenet.variants import Counts, Variant

CLASSES = imagenet_classes()[::50]  # 20 classes
TRAIN, VAL = 4, 2  # images per class
ROW = Variant("imagenet", "ImageNet", CLASSES, Counts(TRAIN * len(CLASSES), VAL * len(CLASSES)), CLASSES)
DEVKIT = "ILSVRC2012_devkit_t12"

Images = dict[str, bytes]
"""The bytes of each image, by its place in the prepared folder."""


def synthetic_images() -> Images:
    """Return images of the prepared folder: ``train/WNID/…`` and ``val/WNID/…``; each has its own bytes."""
    draw = np.random.default_rng(0)
    images = {}
    for place, wnid in enumerate(CLASSES):
        for number in draw.choice(20_000, TRAIN, replace=False):
            images[f"train/{wnid}/{wnid}_{number}.JPEG"] = _jpeg(draw)
        for number in range(VAL):  # numbers are not in the order of classes
            index = 1 + (number * len(CLASSES) + 7 * place) % (VAL * len(CLASSES))
            images[f"val/{wnid}/ILSVRC2012_val_{index:08}.JPEG"] = _jpeg(draw)
    assert len(images) == (TRAIN + VAL) * len(CLASSES)
    return images


def tree(folder: Path) -> Images:
    """Return the bytes of all images below a folder, by their place."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for split in ("train", "val")
        for wnid in (folder / split).iterdir()
        for path in wnid.iterdir()
    }


def _jpeg(draw: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def split_of(images: Images, split: str) -> dict[tuple[str, str], bytes]:
    """Return a split's images by class and name."""
    parts = {tuple(place.split("/")): content for place, content in images.items()}
    return {(wnid, name): content for (part, wnid, name), content in sorted(parts.items()) if part == split}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]  # the mode is a variable
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def class_tars(images: Images) -> dict[str, bytes]:
    tars: dict[str, dict[str, bytes]] = {}
    for (wnid, name), content in split_of(images, "train").items():
        tars.setdefault(wnid, {})[name] = content
    return {f"{wnid}.tar": tar_of(files) for wnid, files in tars.items()}


def write_tars(root: Path, images: Images) -> Path:
    """Write the three archives of ILSVRC 2012."""
    write(root / "ILSVRC2012_img_train.tar", tar_of(class_tars(images)))
    write(root / "ILSVRC2012_img_val.tar", tar_of({name: x for (_, name), x in split_of(images, "val").items()}))
    write(root / f"{DEVKIT}.tar.gz", tar_of(devkit_files(images), "w:gz"))
    return root


def devkit_files(images: Images) -> dict[str, bytes]:
    """Return the devkit's files; its class numbers are not in sorted order, and it has the classes' ancestors too."""
    numbers = {wnid: 1 + (3 * place) % len(CLASSES) for place, wnid in enumerate(CLASSES)}
    rows = [(numbers[wnid], wnid, wnid, "a gloss", 0, [], 0, TRAIN) for wnid in CLASSES]
    rows += [(len(CLASSES) + 1, "n00001740", "entity", "an ancestor", 2, [1, 2], 1, 0)]
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    synsets = np.array([row for row in sorted(rows)], dtype=[(name, object) for name in fields]).reshape(-1, 1)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    truth = {name: numbers[wnid] for wnid, name in split_of(images, "val")}
    lines = "".join(f"{truth[name]}\n" for name in sorted(truth))
    return {
        f"{DEVKIT}/readme.txt": b"the devkit",
        f"{DEVKIT}/data/meta.mat": meta.getvalue(),
        f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": lines.encode(),
    }


def kaggle_csv(images: Images) -> bytes:
    rows = [f"{name[:-5]},{wnid} 1 2 30 40 {wnid} 5 6 70 80 \n" for wnid, name in split_of(images, "val")]
    return ("ImageId,PredictionString\n" + "".join(reversed(rows))).encode()


def write_kaggle(root: Path, images: Images) -> Path:
    """Write what Kaggle's archive contains."""
    data = root / "ILSVRC" / "Data" / "CLS-LOC"
    write_folders(data, images)
    write(data / "test" / "ILSVRC2012_test_00000001.JPEG", b"test")
    write(root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val" / "ILSVRC2012_val_00000001.xml", b"<annotation/>")
    listed = [f"{wnid}/{name[:-5]} {line}\n" for line, (wnid, name) in enumerate(split_of(images, "train"), 1)]
    write(root / "ILSVRC" / "ImageSets" / "CLS-LOC" / "train_cls.txt", "".join(listed).encode())
    write(root / "LOC_val_solution.csv", kaggle_csv(images))
    write(root / "LOC_synset_mapping.txt", b"n01440764 tench, Tinca tinca\n")
    return root


def write_folders(root: Path, images: Images) -> Path:
    """Write train/ in class folders, and a flat val/."""
    for (wnid, name), content in split_of(images, "train").items():
        write(root / "train" / wnid / name, content)
    for (_, name), content in split_of(images, "val").items():
        write(root / "val" / name, content)
    return root


def write_flat_val(root: Path, images: Images) -> Path:
    """Write train/ in class folders, a flat val/, and the unpacked devkit."""
    for name, content in devkit_files(images).items():
        write(root / name, content)
    return write_folders(root, images)


def write_parquet(root: Path, images: Images, shards: int = 3) -> Path:
    """Write Hugging Face's Parquet files, with shuffled training images and small row groups."""
    draw = np.random.default_rng(1)
    for split, word, total in (("train", "train", shards), ("val", "validation", 1), ("test", "test", 1)):
        rows = [
            ({"bytes": content, "path": f"{name[:-5]}_{wnid}.JPEG"}, CLASSES.index(wnid))
            for (wnid, name), content in split_of(images, split).items()
        ] or [({"bytes": b"test", "path": "ILSVRC2012_test_00000001.JPEG"}, -1)]
        order = draw.permutation(len(rows))
        for number in range(total):
            mine = [rows[index] for index in order[number::total]]
            write_shard(root / "data" / f"{word}-{number:05}-of-{total:05}.parquet", mine)
    return root


def write_shard(path: Path, rows: list[tuple[dict[str, object], int]]) -> None:
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("label", pyarrow.int64())])
    table = pyarrow.table({"image": [row for row, _ in rows], "label": [label for _, label in rows]}, schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=10)


LAYOUTS = {"tars": write_tars, "kaggle": write_kaggle, "flat_val": write_flat_val, "parquet": write_parquet}
