"""Compare the time to prepare a training crop with mmsegmentation's pipeline, rewritten plainly with OpenCV.

    pip install opencv-python-headless
    python scripts/scene_loader_speed.py
    python scripts/scene_loader_speed.py --sizes 683x512 --rounds 9

Both read the same JPEGs and index masks, resize by 0.5 to 2 relative to 2048 × 512, crop 512 × 512 (``cat_max_ratio``
0.75), flip, and change colors, in one single-threaded process, taking turns. The script measures CPU time, so that
other processes have no effect, and prints medians in milliseconds per image. Images are generated.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.data.input_format import InputOptions
from inceptionnext_lit.data.scene_checks import scene_format
from inceptionnext_lit.data.transforms.segmentation import SEGMENTATION_LEVELS, TrainingCrop

SCALE, CROP, RATIO, SHARE, REDRAWS = (2048, 512), 512, (0.5, 2.0), 0.75, 10
CLASSES = 20
Paths = tuple[Path, Path]


def draw(folder: Path, index: int, width: int, height: int) -> Paths:
    """Write an image with structures from coarse to fine and camera grain, and a mask of smooth regions."""
    generator = np.random.default_rng(index)
    total = np.full((height, width, 3), 128, np.float32)
    for cells in (3, 8, 20, 60, 150):
        for channel in range(3):
            coarse = Image.fromarray(generator.standard_normal((cells, cells), np.float32))
            total[..., channel] += (
                np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) * 80 / cells**0.5
            )
    total += generator.standard_normal((height, width, 1), np.float32) * 4
    image, mask = folder / f"{width}_{index}.jpg", folder / f"{width}_{index}.png"
    Image.fromarray(np.clip(total, 0, 255).astype(np.uint8)).save(image, quality=90)
    levels = Image.fromarray(generator.standard_normal((8, 8), np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    Image.fromarray(np.clip(np.asarray(levels) * 4 + CLASSES / 2, 0, CLASSES - 1).astype(np.uint8)).save(mask)
    return image, mask


def mmseg(cv2: Any, image_file: Path, mask_file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what mmsegmentation 1.2's transforms of ADE20K do, with mmcv's default backends."""
    image = cv2.imdecode(np.frombuffer(image_file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    mask = np.array(Image.open(mask_file))
    factor = np.random.random_sample() * (RATIO[1] - RATIO[0]) + RATIO[0]
    longer, shorter = int(SCALE[0] * factor), int(SCALE[1] * factor)
    height, width = mask.shape
    ratio = min(longer / max(height, width), shorter / min(height, width))
    size = int(width * ratio + 0.5), int(height * ratio + 0.5)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    box = _box(mask.shape)
    for _ in range(REDRAWS):
        labels, counts = np.unique(mask[box], return_counts=True)
        counts = counts[labels != 255]
        if len(counts) > 1 and counts.max() / counts.sum() < SHARE:
            break
        box = _box(mask.shape)
    image, mask = image[box], mask[box]
    if np.random.random_sample() < 0.5:
        image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
    return torch.from_numpy(np.ascontiguousarray(_distort(cv2, image).transpose(2, 0, 1))), torch.from_numpy(mask)


def _box(size: tuple[int, ...]) -> tuple[slice, slice]:
    top = np.random.randint(0, max(size[0] - CROP, 0) + 1)
    left = np.random.randint(0, max(size[1] - CROP, 0) + 1)
    return slice(top, top + CROP), slice(left, left + CROP)


def _distort(cv2: Any, image: np.ndarray) -> np.ndarray:
    if np.random.randint(2):
        image = _convert(image, beta=np.random.uniform(-32, 32))
    contrast_first = np.random.randint(2) == 1
    if contrast_first and np.random.randint(2):
        image = _convert(image, alpha=np.random.uniform(0.5, 1.5))
    if np.random.randint(2):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        image[:, :, 1] = _convert(image[:, :, 1], alpha=np.random.uniform(0.5, 1.5))
        image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if np.random.randint(2):
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        image[:, :, 0] = (image[:, :, 0].astype(int) + np.random.randint(-18, 18)) % 180
        image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if not contrast_first and np.random.randint(2):
        image = _convert(image, alpha=np.random.uniform(0.5, 1.5))
    return image


def _convert(image: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
    return np.clip(image.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def seconds(read: Callable[[Path, Path], object], files: list[Paths], seed: int) -> float:
    """Return the CPU seconds per image."""
    np.random.seed(seed)
    began = time.process_time()
    for image, mask in files:
        read(image, mask)
    return (time.process_time() - began) / len(files)


def main() -> None:
    """Run the command line."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["683x512", "2048x1536", "4000x3000"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--images", type=int, default=12, help="images of each size")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_memory()  # as in our loader processes; applies to both
    crop = TrainingCrop(SEGMENTATION_LEVELS["mmseg"], scene_format(CROP, list(SCALE), 3, InputOptions()))

    def here(image: Path, mask: Path) -> object:
        return crop.read(str(image), np.array(Image.open(mask)))

    table = Table("image", "mmsegmentation, ms", "here, ms", "ratio (min–max)")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            width, height = map(int, size.split("x"))
            files = [draw(Path(folder), index, width, height) for index in range(options.images)]
            sides = [lambda image, mask: mmseg(cv2, image, mask), here]
            timed = [[seconds(side, files, seed) for side in sides] for seed in range(options.rounds + 1)][1:]
            medians = [f"{1000 * statistics.median(column):.1f}" for column in zip(*timed, strict=True)]
            ratios = [theirs / ours for theirs, ours in timed]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            table.add_row(f"{width} × {height}", *medians, spread)
    table.caption = f"CPU time per image on one core; medians of {options.rounds} rounds of {options.images} images."
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
