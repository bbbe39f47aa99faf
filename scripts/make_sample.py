"""Sample the embedded images of ``inceptionnext_lit/data`` from Debian's copy of Fashion-MNIST.

    apt-get install dataset-fashion-mnist
    python scripts/make_sample.py
    python scripts/make_sample.py --train_folder FOLDER --test_folder FOLDER

The second form instead writes the 60,000 training images to FOLDER/train/CLASS, the 10,000 test images to
FOLDER/test/CLASS, or both, for ``cli.py fit`` and ``cli.py test``. With ``--train_per_class N`` it draws N training
images per class with a fixed seed.

Per class, 600 training and 100 validation images are sampled from the 60,000 training images (the 10,000 test images
are not used), with a fixed seed and without pixel-identical copies. They are written as PNG files in class folders of
one zip archive, with fixed dates and a fixed order, so that the same versions of Pillow and zlib always write the same
bytes. A file's name is the image's index in the original file.
"""

import argparse
import gzip
import io
import random
import zipfile
from pathlib import Path

from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
COPYRIGHT = Path("/usr/share/doc/dataset-fashion-mnist/copyright")
DATA = Path(__file__).resolve().parent.parent / "inceptionnext_lit" / "data"
CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
TRAIN_PER_CLASS = 600
VAL_PER_CLASS = 100
SEED = 0
SIDE = 28
DATE = (2017, 8, 25, 0, 0, 0)


def read_idx(path: Path, header: int) -> bytes:
    """Read the bytes of a gzipped IDX file after its header of ``header`` bytes."""
    with gzip.open(path, "rb") as file:
        return file.read()[header:]


def draw(pixels: bytes, labels: bytes) -> dict[str, list[int]]:
    """Sample both splits; return the sorted indices by archive folder, such as ``train/bag``."""
    size = SIDE * SIDE
    seen: set[bytes] = set()
    indices: list[list[int]] = [[] for _ in CLASSES]
    for index, label in enumerate(labels):
        image = pixels[index * size : (index + 1) * size]
        if image not in seen:
            seen.add(image)
            indices[label].append(index)
    print(f"{len(labels) - len(seen)} pixel-identical copies left out of {len(labels)} images")

    rng = random.Random(SEED)
    parts = {}
    for name, candidates in zip(CLASSES, indices, strict=True):
        drawn = rng.sample(candidates, TRAIN_PER_CLASS + VAL_PER_CLASS)
        parts[f"train/{name}"] = sorted(drawn[:TRAIN_PER_CLASS])
        parts[f"val/{name}"] = sorted(drawn[TRAIN_PER_CLASS:])
    return dict(sorted(parts.items()))


def encode(pixels: bytes, index: int) -> bytes:
    """Encode one image as an optimized 8-bit grayscale PNG."""
    size = SIDE * SIDE
    image = Image.frombytes("L", (SIDE, SIDE), pixels[index * size : (index + 1) * size])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def license_text() -> str:
    """Return the MIT license of the images, from Debian's copyright file."""
    expat = COPYRIGHT.read_text().split("License: Expat\n Permission")[1]
    lines = ("Permission" + expat).splitlines()
    text = "\n".join("" if line.strip() == "." else line.strip() for line in lines).strip()
    return f"MIT License\n\nCopyright (c) 2017 Zalando SE\n\n{text}\n"


def write_folder(root: Path, source: str, split: str, per_class: int | None = None) -> None:
    """Write the images of one of the data set's two splits, or a sample, as ``root/split/CLASS/NNNNN.png``."""
    pixels = read_idx(SOURCE / f"{source}-images-idx3-ubyte.gz", header=16)
    labels = read_idx(SOURCE / f"{source}-labels-idx1-ubyte.gz", header=8)
    for name in CLASSES:
        (root / split / name).mkdir(parents=True, exist_ok=True)
    indices = [[index for index, label in enumerate(labels) if label == number] for number in range(len(CLASSES))]
    if per_class is not None:
        rng = random.Random(SEED)
        indices = [sorted(rng.sample(members, per_class)) for members in indices]
    for name, members in zip(CLASSES, indices, strict=True):
        for index in members:
            (root / split / name / f"{index:05d}.png").write_bytes(encode(pixels, index))
    print(f"{root / split}: {sum(map(len, indices))} images")


def write_archive(output: Path) -> None:
    """Write the archive of the embedded images, with the license next to it."""
    pixels = read_idx(SOURCE / "train-images-idx3-ubyte.gz", header=16)
    labels = read_idx(SOURCE / "train-labels-idx1-ubyte.gz", header=8)

    files = {"LICENSE": license_text().encode()}
    for folder, indices in draw(pixels, labels).items():
        for index in indices:
            files[f"{folder}/{index:05d}.png"] = encode(pixels, index)
    archive = output / "fashion_mnist_sample.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for name, content in files.items():
            bundle.writestr(zipfile.ZipInfo(name, DATE), content)
    (output / "LICENSE-fashion-mnist").write_text(license_text())
    print(f"{archive}: {len(files) - 1} images, {archive.stat().st_size:,} bytes")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=DATA, help="folder to write the archive to")
    parser.add_argument("--train_folder", type=Path, help="write the training images to class folders here instead")
    parser.add_argument("--train_per_class", type=int, metavar="N", help="draw N training images per class")
    parser.add_argument("--test_folder", type=Path, help="write the test images to class folders here instead")
    args = parser.parse_args()
    if args.train_folder is not None:
        write_folder(args.train_folder, "train", "train", args.train_per_class)
    if args.test_folder is not None:
        write_folder(args.test_folder, "t10k", "test")
    if args.train_folder is None and args.test_folder is None:
        write_archive(args.output)


if __name__ == "__main__":
    main()
