"""Create a folder of varied JPEG images of a photograph's size, to time the reading of folders.

    python scripts/make_jpegs.py FOLDER
    python scripts/make_jpegs.py FOLDER --images 10000 --size 500x375

Each image overlays three of the embedded clothing images, randomly cropped, enlarged and colored, and adds grain, so
that a file has about 50 kB and no two look alike. There are ten classes, and a tenth of each is in val/.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from inceptionnext_lit.data.sources.embedded import unpack_sample
from inceptionnext_lit.data.sources.files import list_images

CLASSES = 10
LAYERS = 3
GRAIN = 12.0  # standard deviation in levels of 255
QUALITY = 85


def make_image(sources: list[Image.Image], size: tuple[int, int], seed: int) -> Image.Image:
    """Draw an image; the same seed gives the same image."""
    draw = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for index in draw.integers(len(sources), size=LAYERS):
        left, top = draw.uniform(0, 14, 2)
        box = (left, top, left + draw.uniform(8, 14), top + draw.uniform(8, 14))
        layer = np.asarray(sources[index].resize(size, Image.Resampling.BICUBIC, box=box), np.float32)
        total += layer[..., None] * draw.uniform(-0.5, 1, 3).astype(np.float32)
    total *= draw.uniform(100, 220) / max(float(np.ptp(total)), 1.0)  # limits clipping
    total += draw.uniform(0, 60, 3).astype(np.float32) - total.min(axis=(0, 1))
    total += draw.standard_normal(total.shape, np.float32) * GRAIN
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", default="500x375", metavar="WIDTHxHEIGHT")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    sources = []
    for path in list_images(unpack_sample() / "train"):
        with Image.open(path) as image:
            sources.append(image.convert("L"))
    for index in range(options.images):
        split = "val" if index // CLASSES % 10 == 9 else "train"
        target = options.folder / split / f"class{index % CLASSES}" / f"{index:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        make_image(sources, (width, height), index).save(target, quality=QUALITY)


if __name__ == "__main__":
    main()
