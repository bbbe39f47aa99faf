"""Small copies of public data sets in the official on-disk format: names, annotation files and archives."""

import csv
import gzip
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Small:
    """A small copy of a data set.

    Args:
        build: Writes the extracted files into the root of torchvision's class.
        counts: Number of images by class, of each of our splits.
        pack: Turns the extracted files in a root into the official archives, in another folder; None if there are none.
    """

    build: Callable[[Path], None]
    counts: Counts
    pack: Callable[[Path, Path], None] | None = None


def picture(path: Path, number: int = 0) -> None:
    """Write a small image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (number * 7 % 256, number * 31 % 256, 90)).save(path)


def pixels(count: int, *shape: int) -> Any:
    """Return arrays of images that differ."""
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def lines(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def tar(archive: Path, folder: Path, *names: str) -> None:
    """Write a tar archive of some names in a folder."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as bundle:
        for name in names:
            bundle.add(folder / name, name)


def zipped(archive: Path, folder: Path, *names: str) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as bundle:
        for name in names:
            for path in [folder / name, *sorted((folder / name).rglob("*"))]:
                bundle.write(path, path.relative_to(folder))


def tarred(base: str, archive: str, *names: str) -> Callable[[Path, Path], None]:
    """Return a function that packs names in ``base`` into one archive."""
    return lambda root, to: tar(to / archive, root / base, *names)


def gzipped(root: Path, to: Path) -> None:
    """Gzip every file."""
    to.mkdir(parents=True, exist_ok=True)
    for path in root.rglob("*"):
        if path.is_file():
            (to / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))


def cifar(base: str, batches: tuple[str, ...], meta: str, label_key: str, meta_key: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        (root / base).mkdir(parents=True)
        for batch in batches:
            content = {"data": pixels(3, 3072), label_key: [0, 1, 2], "coarse_labels": [0, 0, 0]}
            (root / base / batch).write_bytes(pickle.dumps(content))
        (root / base / meta).write_bytes(pickle.dumps({meta_key: ["apple", "bee", "crab"]}))

    return build


def idx(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{array.ndim}I", 8 * 256 + array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def mnist(kind: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for split, count in (("train", 20), ("t10k", 10)):
            idx(root / kind / "raw" / f"{split}-images-idx3-ubyte", pixels(count, 28, 28))
            idx(root / kind / "raw" / f"{split}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)

    return build


def emnist(root: Path) -> None:
    for split, count in (("train", 94), ("test", 47)):
        idx(root / "EMNIST/raw" / f"emnist-balanced-{split}-images-idx3-ubyte", pixels(count, 28, 28))
        idx(root / "EMNIST/raw" / f"emnist-balanced-{split}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 47)


def pack_emnist(root: Path, to: Path) -> None:
    gzipped(root, to / "gzip")
    zipped(to / "gzip.zip", to, "gzip")
    shutil.rmtree(to / "gzip")


def svhn(root: Path) -> None:
    for split, count in (("train", 20), ("test", 10)):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10 + 1
        scipy.io.savemat(
            root / f"{split}_32x32.mat", {"X": pixels(count, 32, 32, 3).transpose(1, 2, 3, 0), "y": labels}
        )


def stl10(root: Path) -> None:
    base = root / "stl10_binary"
    base.mkdir(parents=True)
    for split, count in (("train", 4), ("test", 2)):
        pixels(count, 3, 96, 96).tofile(base / f"{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 2 + 1).tofile(base / f"{split}_y.bin")
    pixels(1, 3, 96, 96).tofile(base / "unlabeled_X.bin")
    lines(base / "class_names.txt", "airplane", "bird")


def pcam(root: Path) -> None:
    import h5py

    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        (root / "pcam").mkdir(parents=True, exist_ok=True)
        for kind, array in (("x", pixels(count, 96, 96, 3)), ("y", (np.arange(count) % 2).reshape(-1, 1, 1, 1))):
            with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{split}_{kind}.h5", "w") as file:
                file[kind] = array


def flowers(root: Path) -> None:
    base = root / "flowers-102"
    labels = [1, 2, 1, 2, 1, 2, 102, 1]
    for number in range(1, len(labels) + 1):
        picture(base / "jpg" / f"image_{number:05}.jpg", number)
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.array([labels])})
    scipy.io.savemat(base / "setid.mat", {"trnid": [[6, 3, 7]], "valid": [[4, 8]], "tstid": [[1, 2, 5]]})


def pack_flowers(root: Path, to: Path) -> None:
    tar(to / "102flowers.tgz", root / "flowers-102", "jpg")
    for name in ("imagelabels.mat", "setid.mat"):
        shutil.copy(root / "flowers-102" / name, to / name)


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    names = {"trainval": ["Abyssinian_1", "american_bulldog_10"], "test": ["Abyssinian_2", "american_bulldog_2"]}
    for split, stems in names.items():
        rows = [f"{stem} {1 + ('bull' in stem)} {1 + ('bull' in stem)} 1" for stem in stems]
        lines(base / "annotations" / f"{split}.txt", *rows)
        for stem in stems:
            picture(base / "images" / f"{stem}.jpg")
            picture(base / "annotations/trimaps" / f"{stem}.png")
    lines(base / "images" / "Abyssinian_100.mat", "as in the official archive")


def pack_pets(root: Path, to: Path) -> None:
    for name in ("images", "annotations"):
        tar(to / f"{name}.tar.gz", root / "oxford-iiit-pet", name)


def dtd(root: Path) -> None:
    base = root / "dtd/dtd"
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_000{number}.jpg" for name in ("banded", "zigzagged")]
        for name in names:
            picture(base / "images" / name)
        for partition in (1, 2):
            lines(base / "labels" / f"{split}{partition}.txt", *(names if partition == 1 else reversed(names)))


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    classes = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
    (base / "devkit").mkdir(parents=True)
    scipy.io.savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(classes, dtype=object)})
    kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(39, number + 1, f"{number + 1:05}.jpg") for number in range(2)]
        scipy.io.savemat(base / path, {"annotations": np.array(rows, dtype=kind)})
        for _, number, name in rows:
            picture(base / f"cars_{split}" / name, number)


def pack_cars(root: Path, to: Path) -> None:
    for archive, name in (("cars_train", "cars_train"), ("cars_test", "cars_test"), ("car_devkit", "devkit")):
        tar(to / f"{archive}.tgz", root / "stanford_cars", name)
    shutil.copy(root / "stanford_cars/cars_test_annos_withlabels.mat", to)


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    lines(data / "variants.txt", "707-320", "F/A-18")
    for first, split in ((100, "trainval"), (200, "test")):
        lines(data / f"images_variant_{split}.txt", f"0034{first} 707-320", f"0035{first} F/A-18")
        for stem in (f"0034{first}", f"0035{first}"):
            picture(data / "images" / f"{stem}.jpg")


def food101(root: Path) -> None:
    base = root / "food-101"
    for split, names in (("train", ("1", "2")), ("test", ("3",))):
        listed = {food: [f"{food}/{name}" for name in names] for food in ("apple_pie", "waffles")}
        lines(base / "meta" / f"{split}.json", json.dumps(listed))
        for stem in (stem for stems in listed.values() for stem in stems):
            picture(base / "images" / f"{stem}.jpg")


def caltech101(root: Path) -> None:
    for name, count in (("BACKGROUND_Google", 2), ("Faces", 31), ("accordion", 33)):
        for number in range(1, count + 1):
            picture(root / "caltech101/101_ObjectCategories" / name / f"image_{number:04}.jpg", number)


def pack_caltech101(root: Path, to: Path) -> None:
    """Pack as the official archive: a zip of two tars."""
    tar(to / "caltech-101/101_ObjectCategories.tar.gz", root / "caltech101", "101_ObjectCategories")
    lines(to / "caltech-101/Annotations.tar", "not used")
    zipped(to / "caltech-101.zip", to, "caltech-101")
    shutil.rmtree(to / "caltech-101")


def sun397(root: Path) -> None:
    base = root / "SUN397"
    lines(base / "ClassName.txt", "/a/abbey", "/a/apartment_building/outdoor")
    for number, name in enumerate(("Training", "Testing")):
        found = [f"/{place}/sun_{number}aaa.jpg" for place in ("a/abbey", "a/apartment_building/outdoor")]
        lines(base / "Partitions" / f"{name}_01.txt", *found)
        for path in found:
            picture(base / path[1:])
    picture(base / "a/abbey/sun_unused.jpg")


def pack_sun397(root: Path, to: Path) -> None:
    zipped(to / "Partitions.zip", root / "SUN397/Partitions", "Training_01.txt", "Testing_01.txt")
    tar(to / "SUN397.tar.gz", root, "SUN397/ClassName.txt", "SUN397/a")


def class_folders(base: str, suffix: str = "jpg", **counts: int) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for name, count in counts.items():
            for number in range(1, count + 1):
                picture(root / base / name / f"{name}_{number}.{suffix}", number)

    return build


def gtsrb(root: Path) -> None:
    base = root / "gtsrb"
    for label in range(2):
        for track, frame in ((0, 0), (0, 1), (1, 0)):
            picture(base / "GTSRB/Training" / f"{label:05}" / f"{track:05}_{frame:05}.ppm", label)
        lines(base / "GTSRB/Training" / f"{label:05}" / f"GT-{label:05}.csv", "Filename;Width;Height")
    rows = [{"Filename": f"{number:05}.ppm", "Width": "53", "ClassId": str(number)} for number in range(2)]
    for row in rows:
        picture(base / "GTSRB/Final_Test/Images" / row["Filename"])
    with (base / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)


def pack_gtsrb(root: Path, to: Path) -> None:
    zipped(to / "GTSRB-Training_fixed.zip", root / "gtsrb", "GTSRB/Training")
    zipped(to / "GTSRB_Final_Test_Images.zip", root / "gtsrb", "GTSRB/Final_Test")
    zipped(to / "GTSRB_Final_Test_GT.zip", root / "gtsrb", "GT-final_test.csv")


def country211(root: Path) -> None:
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        for code in ("AD", "NA"):  # Namibia, which tables often mean as a missing value
            for number in range(count):
                picture(root / "country211" / split / code / f"{number}.jpg", number)


def voc2007(root: Path) -> None:
    base = root / "VOCdevkit/VOC2007"
    images = {
        "train": {"000012": ["car"], "000017": ["person", "horse", "person"]},
        "val": {"000005": ["horse"]},
        "test": {"000001": ["dog*", "person"], "000002": ["car"], "000003": ["dog"]},
    }
    images["train"]["000023"] = ["dog"]
    for split, of_image in images.items():
        lines(base / "ImageSets/Main" / f"{split}.txt", *of_image)
        for stem, objects in of_image.items():
            picture(base / "JPEGImages" / f"{stem}.jpg")
            parts = [
                f"<object><name>{name.strip('*')}</name><difficult>{int('*' in name)}</difficult></object>"
                for name in objects
            ]
            lines(
                base / "Annotations" / f"{stem}.xml",
                f"<annotation><folder>VOC2007</folder>{''.join(parts)}</annotation>",
            )
    lines(base / "ImageSets/Main/trainval.txt", *images["train"], *images["val"])


def pack_voc2007(root: Path, to: Path) -> None:
    base = "VOCdevkit/VOC2007"
    test = ("000001", "000002", "000003")
    parts = {True: [f"{base}/ImageSets/Main/test.txt"], False: []}
    parts[False] = [f"{base}/ImageSets/Main/{split}.txt" for split in ("train", "val", "trainval")]
    for path in sorted((root / base).glob("*/0*.*")):
        parts[path.stem in test].append(str(path.relative_to(root)))
    tar(to / "VOCtrainval_06-Nov-2007.tar", root, *parts[False])
    tar(to / "VOCtest_06-Nov-2007.tar", root, *parts[True])


def inat(year: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        validation = []
        for above, label in (("Fungi", 0), ("Plantae", 1)):
            for name in ("aa", "bb", "cc"):
                picture(root / year / above / str(label) / f"{name}.jpg")
            validation.append(f"train_val{year}/{above}/{label}/bb.jpg")
        listed = {"images": [{"id": number, "file_name": name} for number, name in enumerate(validation)]}
        lines(root / f"val{year}.json", json.dumps(listed))

    return build


def pack_inat(year: str) -> Callable[[Path, Path], None]:
    def pack(root: Path, to: Path) -> None:
        (root / year).rename(root / f"train_val{year}")
        tar(to / f"train_val{year}.tar.gz", root, f"train_val{year}")
        tar(to / f"val{year}.json.tar.gz", root, f"val{year}.json")

    return pack


_SPECIES = ("00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris", "00001_A_B_C_D_E_F_g")


def inat2021(root: Path) -> None:
    for folder, count in (("2021_train_mini", 2), ("2021_valid", 1)):
        for species in _SPECIES:
            for number in range(count):
                picture(root / folder / species / f"{folder}{number}.jpg")


def pack_inat2021(root: Path, to: Path) -> None:
    for name, official in (("2021_train_mini", "train_mini"), ("2021_valid", "val")):
        (root / name).rename(root / official)
        tar(to / f"{official}.tar.gz", root, official)


def places365(root: Path) -> None:
    lines(root / "categories_places365.txt", "/a/airfield 0", "/a/apartment_building/outdoor 1")
    for split, folder, stem in (
        ("train_standard", "data_256_standard", "/a/airfield/00000001.jpg /a/apartment_building/outdoor/00000001.jpg"),
        ("val", "val_256", "Places365_val_00000001.jpg Places365_val_00000002.jpg"),
    ):
        lines(root / f"places365_{split}.txt", *(f"{name} {label}" for label, name in enumerate(stem.split())))
        for name in stem.split():
            picture(root / folder / name.lstrip("/"))


def pack_places365(root: Path, to: Path) -> None:
    (root / "data_256_standard").rename(root / "data_256")
    lists = ("categories_places365.txt", "places365_train_standard.txt", "places365_val.txt")
    tar(to / "filelist_places365-standard.tar", root, *lists)
    tar(to / "train_256_places365standard.tar", root, "data_256")
    tar(to / "val_256.tar", root, "val_256")


def equally(train: int, test: int, *classes: str, val: int = 0) -> Counts:
    """Return counts that are equal for all classes."""
    sizes = {"train": train, "val": val, "test": test}
    return {split: dict.fromkeys(classes, size) for split, size in sizes.items() if size}


_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_DIGITS = tuple("0123456789")
_FASHION = ("ankle-boot", "bag", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt", "trouser")
_EMNIST = (*_DIGITS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *(f"{letter}_lower" for letter in "abdefghnqrt"))
SMALL: dict[str, Small] = {
    "cifar10": Small(
        cifar("cifar-10-batches-py", _BATCHES, "batches.meta", "labels", "label_names"),
        equally(5, 1, "apple", "bee", "crab"),
        tarred("", "cifar-10-python.tar.gz", "cifar-10-batches-py"),
    ),
    "cifar100": Small(
        cifar("cifar-100-python", ("train", "test"), "meta", "fine_labels", "fine_label_names"),
        equally(1, 1, "apple", "bee", "crab"),
        tarred("", "cifar-100-python.tar.gz", "cifar-100-python"),
    ),
    "mnist": Small(mnist("MNIST"), equally(2, 1, *_DIGITS), gzipped),
    "fashion-mnist": Small(mnist("FashionMNIST"), equally(2, 1, *_FASHION), gzipped),
    "kmnist": Small(
        mnist("KMNIST"), equally(2, 1, *sorted(["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"])), gzipped
    ),
    "emnist": Small(emnist, equally(2, 1, *sorted(_EMNIST)), pack_emnist),
    "svhn": Small(svhn, equally(2, 1, *_DIGITS)),
    "stl10": Small(stl10, equally(2, 1, "airplane", "bird"), tarred("", "stl10_binary.tar.gz", "stl10_binary")),
    "pcam": Small(pcam, equally(2, 1, "no_tumor", "tumor", val=1), gzipped),
    "flowers102": Small(
        flowers,
        {
            "train": {"blackberry lily": 1, "hard-leaved pocket orchid": 1, "pink primrose": 1},
            "val": {"hard-leaved pocket orchid": 1, "pink primrose": 1},
            "test": {"hard-leaved pocket orchid": 1, "pink primrose": 2},
        },
        pack_flowers,
    ),
    "pets": Small(pets, equally(1, 1, "Abyssinian", "American Bulldog"), pack_pets),
    "dtd": Small(dtd, equally(1, 1, "banded", "zigzagged", val=1), tarred("dtd", "dtd-r1.0.1.tar.gz", "dtd")),
    "cars": Small(cars, equally(1, 1, "AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"), pack_cars),
    "aircraft": Small(
        aircraft, equally(1, 1, "707-320", "F/A-18"), tarred("", "fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b")
    ),
    "food101": Small(food101, equally(2, 1, "apple_pie", "waffles"), tarred("", "food-101.tar.gz", "food-101")),
    "caltech101": Small(
        caltech101, {"train": {"Faces": 30, "accordion": 30}, "test": {"Faces": 1, "accordion": 3}}, pack_caltech101
    ),
    "sun397": Small(sun397, equally(1, 1, "abbey", "apartment_building/outdoor"), pack_sun397),
    "eurosat": Small(
        class_folders("eurosat/2750", Forest=5, River=10),
        {"train": {"Forest": 4, "River": 8}, "test": {"Forest": 1, "River": 2}},
        lambda root, to: zipped(to / "EuroSAT.zip", root / "eurosat", "2750"),
    ),
    "gtsrb": Small(gtsrb, equally(3, 1, "00000", "00001"), pack_gtsrb),
    "country211": Small(country211, equally(3, 2, "AD", "NA", val=1), tarred("", "country211.tgz", "country211")),
    "voc2007": Small(
        voc2007,
        {
            "train": {"car": 1, "dog": 1, "horse": 1, "person": 1},
            "val": {"horse": 1},
            "test": {"car": 1, "dog": 2, "person": 1},
        },
        pack_voc2007,
    ),
    "inat2018": Small(
        inat("2018"),
        {"train": {"Fungi/0": 2, "Plantae/1": 2}, "val": {"Fungi/0": 1, "Plantae/1": 1}},
        pack_inat("2018"),
    ),
    "inat2019": Small(
        inat("2019"),
        {"train": {"Fungi/0": 2, "Plantae/1": 2}, "val": {"Fungi/0": 1, "Plantae/1": 1}},
        pack_inat("2019"),
    ),
    "inat2021-mini": Small(inat2021, equally(2, 0, *_SPECIES, val=1), pack_inat2021),
    "places365": Small(places365, equally(1, 0, "airfield", "apartment_building/outdoor", val=1), pack_places365),
}
