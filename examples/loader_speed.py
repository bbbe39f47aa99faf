"""Measure the images per second that one core prepares for training, with this package's loader and timm's transforms.

    python examples/loader_speed.py
    python examples/loader_speed.py --images FOLDER --rounds 9

Both read the same JPEG files in one single-threaded process, taking turns in rounds. The result is what a loader worker
returns: uint8 (3, 224, 224) in this package; in timm, either uint8 (with ``use_prefetcher``) or, by default, a
normalized tensor. The remaining work on the device is timed separately, on the CPU; on a GPU it is a small part of a
step. The script measures CPU time, so other processes and slow disks have no effect. Without ``--images``, it generates
photo-like JPEGs.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data import create_transform

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.data import Augmentation
from inceptionnext_lit.data.device_batch import RawImages, ToInput, stack_pixels
from inceptionnext_lit.data.input_format import input_format
from inceptionnext_lit.data.sources.files import list_images
from inceptionnext_lit.data.transforms.erasing import draw_erasure
from inceptionnext_lit.data.transforms.pipeline import train_transform

SIZE = 224
ERASING = 0.25
PLAIN = Augmentation(color_jitter=0, rand_augment_magnitude=None, erasing=0)
FULL = Augmentation(erasing=ERASING)


def draw_photo(seed: int, width: int = 500, height: int = 375) -> Image.Image:
    """Draw shapes from coarse to fine, with strengths as in photographs, and camera grain."""
    draw = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 8, 20, 60, 150):
        coarse = draw.standard_normal((cells, cells, 3), np.float32) + draw.standard_normal(
            (cells, cells, 1), np.float32
        )
        layers = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], axis=-1) * 80 / cells**0.5
    total += 128 + draw.standard_normal((height, width, 1), np.float32) * 4
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def timm_reader(augment: bool, prefetcher: bool) -> Callable[[str], object]:
    """Return timm's training transform of a file, opened and converted as in timm's data sets."""
    transform = create_transform(
        SIZE, is_training=True, color_jitter=0.0, interpolation="random", use_prefetcher=prefetcher,
        auto_augment="rand-m9-mstd0.5-inc1" if augment else None, re_prob=ERASING if augment else 0.0, re_mode="pixel",
    )  # fmt: skip

    def read(path: str) -> object:
        with open(path, "rb") as file:
            image = Image.open(file).convert("RGB")
        while True:
            try:
                return transform(image)
            except ValueError:  # timm may posterize to 0 bits, which Pillow rejects; draw again
                continue

    return read


def throughput(read: Callable[[str], object], paths: list[str], seed: int) -> float:
    """Return images per second."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    began = time.process_time()
    for path in paths:
        read(path)
    return len(paths) / (time.process_time() - began)


def device_part(pixels: list[torch.Tensor], form: ToInput) -> float:
    """Return images per second of the device's part, with erasing, on one core."""
    raw = RawImages(stack_pixels(pixels), [draw_erasure(ERASING, SIZE, SIZE) for _ in pixels])
    began = time.process_time()
    raw.finished(form)
    return len(pixels) / (time.process_time() - began)


def measure(paths: list[str], rounds: int) -> Table:
    """Return a table of medians over rounds, each of which times every reader once."""
    preprocessing = input_format(SIZE, 3)
    form = ToInput(preprocessing)
    table = Table("images/s on one core", "timm, bytes", "timm, tensor", "here", "here ÷ bytes", "here ÷ tensor")
    finishing: list[float] = []
    for name, augment, augmentation in (("crop and flip", False, PLAIN), ("RandAugment, erasing", True, FULL)):
        ours = train_transform(augmentation, preprocessing).read
        erasing = augmentation.erasing

        def here(path: str, read: Callable[[str], torch.Tensor] = ours, erasing: float = erasing) -> object:
            return read(path), draw_erasure(erasing, SIZE, SIZE)

        sides = [timm_reader(augment, prefetcher=True), timm_reader(augment, prefetcher=False), here]
        for side in sides:
            throughput(side, paths[:8], seed=0)
        timed = [[throughput(side, paths, seed) for side in sides] for seed in range(rounds)]
        columns = [f"{statistics.median(column):.0f}" for column in zip(*timed, strict=True)]
        for index in (0, 1):
            ratios = [row[2] / row[index] for row in timed]
            columns.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        table.add_row(name, *columns)
        pixels = [ours(path) for path in paths[:64]]
        finishing += [device_part(pixels, form) for _ in range(rounds + 1)][1:]
    table.caption = (
        f"{len(paths)} files, medians of {rounds} rounds (min–max). The rest, on the device: "
        f"{1e6 / statistics.median(finishing):.0f} µs per image on one core."
    )
    return table


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs (default: generated ones)")
    parser.add_argument("--count", type=int, default=128, help="maximum number of images")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as in our loader processes; applies to timm too
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            for index in range(options.count):
                draw_photo(index).save(Path(folder) / f"{index:04}.jpg", quality=90)
        paths = [str(path) for path in list_images(options.images or Path(folder))][: options.count]
        kilobytes = sum(Path(path).stat().st_size for path in paths) / len(paths) / 1000
        console = Console(width=120)
        console.print(f"{len(paths)} files of {kilobytes:.0f} kB on average")
        console.print(measure(paths, options.rounds))


if __name__ == "__main__":
    main()
