"""Small folders of images with masks, as other tools write them."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.masks.class_table import colormap

Index = NDArray[np.uint8]
NAMES = ["background", "cat", "dog"]
COLORS = [(0, 0, 0), (200, 30, 30), (10, 90, 250)]


def scene(seed: int, height: int = 24, width: int = 32, classes: int = 3, ignored: bool = False) -> tuple[Index, Index]:
    """An image (H, W, 3), and its mask (H, W) of rectangles, of which every class has one."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=np.uint8)
    for index in range(1, classes):
        top, left = generator.integers(0, height - 8), generator.integers(0, width - 8)
        mask[top : top + 5 + index, left : left + 4 + index] = index
        mask[index, index] = index
    if ignored:
        mask[-2:] = 255
    image = generator.integers(0, 255, (height, width, 3), dtype=np.uint8) // 2 + mask[..., None] % 128 * 40
    return image.astype(np.uint8), mask


def write_image(path: Path, image: Index) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)
    return path


def write_palette(path: Path, mask: Index, colors: Sequence[Sequence[int]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette([level for color in colors or colormap(256) for level in color])
    image.save(path)
    return path


def colored(mask: Index, colors: Sequence[Sequence[int]] = COLORS) -> Index:
    return np.array(colors, dtype=np.uint8)[mask]


def write_classes(path: Path, names: Sequence[str] = NAMES, colors: Sequence[Sequence[int]] = COLORS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["name", "r", "g", "b"], *([n, *c] for n, c in zip(names, colors, strict=True))])
    return path


def runs(mask: Index, index: int) -> list[list[float]]:
    """Rectangles around each run of a class's pixels in a row, as COCO's polygons."""
    polygons = []
    for row in range(len(mask)):
        inside = np.flatnonzero(np.diff(np.concatenate([[0], mask[row] == index, [0]])))
        for left, right in inside.reshape(-1, 2).tolist():
            polygons.append([left, row, right, row, right, row + 1, left, row + 1])
    return polygons


def write_pairs(
    root: Path,
    save: Callable[[Path, Index], Any] = write_image,
    *,
    counts: dict[str, int] | None = None,
    suffix: str = ".png",
    after: str = "",
    folders: tuple[str, str] = ("images", "masks"),
    **options: Any,
) -> dict[str, Index]:
    """Write images and masks; return the masks by the images' stems."""
    written = {}
    for split, count in (counts or {"": 4}).items():
        for number in range(count):
            image, mask = scene(len(written), **options)
            stem = f"{split or 'scene'}{number}"
            write_image(root / folders[0] / split / f"{stem}.jpg", image)
            path = root / folders[1] / split / f"{stem}{after}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, mask)
            written[stem] = mask
    return written


def write_coco(root: Path, count: int = 4, name: str = "annotations/instances.json") -> dict[str, Index]:
    written, images, annotations = {}, [], []
    for number in range(count):
        image, mask = scene(number)
        write_image(root / "images" / f"{number}.jpg", image)
        images.append({"id": 10 + number, "file_name": f"{number}.jpg", "width": 32, "height": 24})
        for index in (1, 2):
            annotations.append(
                {"id": len(annotations), "image_id": 10 + number, "category_id": 5 * index,
                 "segmentation": runs(mask, index), "iscrowd": 0}
            )  # fmt: skip
        written[str(number)] = mask
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 10, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return written


def write_labelme(root: Path, count: int = 4) -> dict[str, Index]:
    """Images and labelme's files next to each other."""
    written = {}
    for number in range(count):
        image, mask = scene(number)
        write_image(root / f"{number}.jpg", image)
        shapes = [
            {"label": NAMES[index], "shape_type": "polygon", "points": np.reshape(ring, (-1, 2)).tolist()}
            for index in (1, 2)
            for ring in runs(mask, index)
        ]
        content = {"version": "5.5.0", "shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None,
                   "imageHeight": 24, "imageWidth": 32}  # fmt: skip
        (root / f"{number}.json").write_text(json.dumps(content))
        written[str(number)] = mask
    return written


def write_yolo(root: Path, count: int = 4) -> dict[str, Index]:
    written = {}
    (root / "labels").mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: cat\n  1: dog\n")
    for number in range(count):
        image, mask = scene(number)
        write_image(root / "images" / f"{number}.jpg", image)
        lines = []
        for index in (1, 2):
            for ring in runs(mask, index):
                corners = np.reshape(ring, (-1, 2)) / (32, 24)
                lines.append(" ".join([str(index - 1), *(f"{value:.9f}" for value in corners.ravel())]))
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
        written[str(number)] = mask
    return written
