"""Read the splits of a data set with torchvision's classes.

Class folders are listed as everywhere in this package, so that files of operating systems are not taken for images.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inceptionnext_lit.data.sources.files import list_images, visible_folders
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.prepare.samples import Arrays, Files, Pixels, Split

Reader = Callable[[Path, str], Split]
_TRAIN_PER_CLASS = 30  # of Caltech-101, as in Kornblith et al., appendix A.1, and in Fei-Fei et al.
_TRAIN_SHARE = 0.8  # of EuroSAT, as in Helber et al., table 3
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
LABEL_DIGESTS = {  # MD5 of the training labels: the files of these data sets have equal names and sizes
    "mnist": "a25bea736e30d166cdddb491f175f624",
    "fashion-mnist": "9018921c3c673c538a1fc5bad174d6f9",
}


def reader_of(name: str) -> Reader:
    """Return the function that reads a split: it takes the root for torchvision's class, and the name of our split.

    Args:
        name: A name of ``inceptionnext_lit.data.public.DATASETS``.
    """
    return _READERS[name]


def _cifar(root: Path, split: str, kind: str) -> Split:
    from torchvision import datasets as tv

    data = getattr(tv, kind)(root, train=split == "train")
    return Arrays(data.classes, _indices(data.targets), lambda start, stop: data.data[start:stop])


def _mnist(root: Path, split: str, kind: str, name: str, classes: Sequence[str]) -> Split:
    from torchvision import datasets as tv

    digest = hashlib.md5((root / kind / "raw/train-labels-idx1-ubyte").read_bytes(), usedforsecurity=False).hexdigest()
    others = [other for other, known in LABEL_DIGESTS.items() if known == digest and other != name]
    if others or digest != LABEL_DIGESTS.get(name, digest):
        raise ValueError(f"its labels are those of {others[0]}" if others else f"its labels are not those of {name}")
    data = getattr(tv, kind)(root, train=split == "train")
    pixels = data.data.numpy()
    return Arrays(classes, _indices(data.targets), lambda start, stop: pixels[start:stop])


def _emnist(root: Path, split: str) -> Split:
    from torchvision import datasets as tv

    data = tv.EMNIST(root, split="balanced", train=split == "train")
    # folders must differ in more than case: some file systems ignore it
    classes = [f"{name}_lower" if name.islower() else name for name in data.classes]
    pixels = data.data.numpy()
    return Arrays(classes, _indices(data.targets), lambda start, stop: pixels[start:stop].transpose(0, 2, 1))


def _svhn(root: Path, split: str) -> Split:
    from torchvision import datasets as tv

    data = tv.SVHN(root, split=split)
    classes = [str(digit) for digit in range(10)]
    return Arrays(classes, _indices(data.labels), lambda start, stop: data.data[start:stop].transpose(0, 2, 3, 1))


def _stl10(root: Path, split: str) -> Split:
    from torchvision import datasets as tv

    data = tv.STL10(root, split=split)
    return Arrays(data.classes, _indices(data.labels), lambda start, stop: data.data[start:stop].transpose(0, 2, 3, 1))


def _pcam(root: Path, split: str) -> Split:
    import h5py
    from torchvision import datasets as tv

    images, targets = (root / "pcam" / tv.PCAM._FILES[split][kind][0] for kind in ("images", "targets"))
    with h5py.File(targets) as file:
        labels = np.asarray(file["y"]).reshape(-1)

    def chunk(start: int, stop: int) -> Pixels:
        with h5py.File(images) as file:
            return np.asarray(file["x"][start:stop], dtype=np.uint8)

    with h5py.File(images) as file:
        if len(file["x"]) != len(labels):
            raise UserError(f"{images} has {len(file['x'])} images, but {targets} has {len(labels)} labels.")
    return Arrays(["no_tumor", "tumor"], _indices(labels), chunk)


def _digits(root: Path, split: str) -> Split:
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = _indices(data.target)
    names = [f"{label}/{index}" for index, label in enumerate(labels)]
    train = _drawn(names, [str(label) for label in labels], _TRAIN_SHARE)
    rows = np.flatnonzero([(name in train) == (split == "train") for name in names])
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)[rows]
    return Arrays([str(digit) for digit in range(10)], labels[rows], lambda start, stop: pixels[start:stop])


def _from_lists(root: Path, kind: str, **options: Any) -> Split:
    """Read one of torchvision's classes that list their files and labels."""
    from torchvision import datasets as tv

    data = getattr(tv, kind)(root, **options)
    files = data._images if kind == "OxfordIIITPet" else data._image_files
    return Files([str(path) for path in files], [data.classes[label] for label in data._labels])


def _cars(root: Path, split: str) -> Split:
    from torchvision import datasets as tv

    data = tv.StanfordCars(root, split=split)
    return Files([path for path, _ in data._samples], [str(data.classes[label]) for _, label in data._samples])


def _caltech101(root: Path, split: str) -> Split:
    files = _class_folders(root / "caltech101/101_ObjectCategories", without="BACKGROUND_Google")
    return _part(files, _drawn(files.paths, files.labels, _TRAIN_PER_CLASS), split)


def _eurosat(root: Path, split: str) -> Split:
    files = _class_folders(root / "eurosat/2750")
    return _part(files, _drawn(files.paths, files.labels, _TRAIN_SHARE), split)


def _gtsrb(root: Path, split: str) -> Split:
    base = root / "gtsrb"
    if split == "train":
        files = _class_folders(base / "GTSRB/Training")
        # 00012_00003.ppm is the fourth picture of track 12 of its class
        tracks = [os.path.basename(path).split("_")[0] for path in files.paths]
        groups = [f"{label}_{track}" for label, track in zip(files.labels, tracks, strict=True)]
        return Files(files.paths, files.labels, groups)
    with (base / "GT-final_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";", skipinitialspace=True))
    paths = [str(base / "GTSRB/Final_Test/Images" / row["Filename"]) for row in rows]
    return Files(paths, [f"{int(row['ClassId']):05}" for row in rows], [f"test_{row['Filename']}" for row in rows])


def _country211(root: Path, split: str) -> Split:
    return _class_folders(root / "country211" / ("valid" if split == "val" else split))


def _sun397(root: Path, split: str) -> Split:
    base = root / "SUN397"
    name = "Training_01.txt" if split == "train" else "Testing_01.txt"
    lines = (base / "Partitions" / name).read_text(encoding="utf-8").split()
    # /a/apartment_building/outdoor/sun_abc.jpg
    return Files([f"{base}{line}" for line in lines], ["/".join(line.split("/")[2:-1]) for line in lines])


def _voc2007(root: Path, split: str) -> Split:
    from torchvision import datasets as tv
    from torchvision.datasets.voc import ET_parse

    data = tv.VOCDetection(root, year="2007", image_set=split)
    labels = []
    for path in data.annotations:
        objects = data.parse_voc_xml(ET_parse(path).getroot())["annotation"]["object"]
        labels.append("|".join(dict.fromkeys(item["name"] for item in objects)))
    return Files(data.images, labels)


def _inat(root: Path, split: str, year: str) -> Split:
    """Read 2018 or 2019: all images are in one folder, and the annotations of the validation images name these."""
    listed = json.loads((root / f"val{year}.json").read_text(encoding="utf-8"))
    validation = {image["file_name"].split("/", 1)[1] for image in listed["images"]}
    paths, labels = [], []
    for above in visible_folders(root / year):
        for folder in visible_folders(above.path):
            for path in list_images(folder.path):
                name = f"{above.name}/{folder.name}/{os.path.basename(path)}"
                if (name in validation) == (split == "val"):
                    paths.append(path)
                    labels.append(f"{above.name}/{folder.name}")
    return Files(paths, labels)


def _inat2021(root: Path, split: str) -> Split:
    return _class_folders(root / ("2021_train_mini" if split == "train" else "2021_valid"))


def _places365(root: Path, split: str) -> Split:
    from torchvision import datasets as tv

    data = tv.Places365(root, split="train-standard" if split == "train" else "val", small=True)
    classes = {index: name[3:] for name, index in data.class_to_idx.items()}  # without /a/
    return Files([path for path, _ in data.imgs], [classes[index] for index in data.targets])


def _class_folders(root: Path, without: str = "") -> Files:
    paths, labels = [], []
    for folder in visible_folders(root):
        if folder.name != without:
            found = list_images(folder.path)
            paths += found
            labels += [folder.name] * len(found)
    return Files(paths, labels)


def _drawn(names: Sequence[str], labels: Sequence[str], size: float) -> set[str]:
    """Draw the training images of each class: ``size`` of them, or this share if it is below 1.

    The order is that of a hash of class and file name, so that it depends on neither a library nor a machine.
    """
    of_class: dict[str, list[str]] = {}
    for name, label in zip(names, labels, strict=True):
        of_class.setdefault(label, []).append(name)
    drawn: set[str] = set()
    for label, members in of_class.items():
        ordered = sorted(members, key=lambda name: _hash(f"{label}/{os.path.basename(name)}"))
        drawn.update(ordered[: round(len(members) * size) if size < 1 else int(size)])
    return drawn


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()


def _part(files: Files, train: set[str], split: str) -> Files:
    kept = [place for place, path in enumerate(files.paths) if (path in train) == (split == "train")]
    return Files([files.paths[place] for place in kept], [files.labels[place] for place in kept])


def _indices(labels: Iterable[int]) -> NDArray[np.int64]:
    return np.asarray(labels, dtype=np.int64)


_DIGITS = tuple(str(digit) for digit in range(10))
_READERS: dict[str, Reader] = {
    "cifar10": lambda root, split: _cifar(root, split, "CIFAR10"),
    "cifar100": lambda root, split: _cifar(root, split, "CIFAR100"),
    "mnist": lambda root, split: _mnist(root, split, "MNIST", "mnist", _DIGITS),
    "fashion-mnist": lambda root, split: _mnist(root, split, "FashionMNIST", "fashion-mnist", _FASHION),
    "kmnist": lambda root, split: _mnist(
        root, split, "KMNIST", "kmnist", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    ),
    "emnist": _emnist,
    "svhn": _svhn,
    "stl10": _stl10,
    "pcam": _pcam,
    "digits": _digits,
    "flowers102": lambda root, split: _from_lists(root, "Flowers102", split=split),
    "pets": lambda root, split: _from_lists(root, "OxfordIIITPet", split="trainval" if split == "train" else split),
    "dtd": lambda root, split: _from_lists(root, "DTD", split=split, partition=1),
    "cars": _cars,
    "aircraft": lambda root, split: _from_lists(root, "FGVCAircraft", split="trainval" if split == "train" else split),
    "food101": lambda root, split: _from_lists(root, "Food101", split=split),
    "caltech101": _caltech101,
    "eurosat": _eurosat,
    "gtsrb": _gtsrb,
    "country211": _country211,
    "sun397": _sun397,
    "voc2007": _voc2007,
    "inat2018": lambda root, split: _inat(root, split, "2018"),
    "inat2019": lambda root, split: _inat(root, split, "2019"),
    "inat2021-mini": _inat2021,
    "places365": _places365,
}
