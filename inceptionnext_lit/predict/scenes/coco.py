"""Write predicted masks as polygons in a COCO file."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inceptionnext_lit.data.masks.annotations import is_background
from inceptionnext_lit.data.masks.polygons import fill
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.scenes.outlining import outlines
from inceptionnext_lit.predict.tables import as_json, identity
from inceptionnext_lit.safe_save import replacing


def write_coco(target: Path, masks: Iterable[tuple[str, Path]], classes: Sequence[str]) -> int:
    """Write a polygon for each connected region of each class, except a background.

    The id of a category is the value of its pixels in the masks.

    Args:
        target: The file, which is replaced.
        masks: Each image, and the file of its mask.
        classes: The class names in index order.

    Returns:
        The number of polygons.

    Raises:
        UserError: If a mask cannot be read, or the file cannot be written.
    """
    found = {value: name for value, name in enumerate(classes) if not is_background(name)}
    categories = [{"id": value, "name": name, "supercategory": ""} for value, name in found.items()]
    number = 0
    images: list[dict[str, Any]] = []
    try:
        with replacing(target) as path, path.open("w", encoding="utf-8") as file:
            file.write(f'{{"categories": {as_json(categories)},\n"annotations": [')
            for image, mask in masks:
                values = _read(mask)
                height, width = values.shape
                images.append({"id": len(images) + 1, "file_name": identity(image), "width": width, "height": height})
                for annotation in _annotations(values, list(found)):
                    number += 1
                    separator = ",\n" if number > 1 else "\n"
                    file.write(separator + as_json({"id": number, "image_id": len(images), **annotation}))
            file.write(f'\n],\n"images": {as_json(images)}}}\n')
    except OSError as error:
        raise UserError(f"{target} could not be written: {error.strerror}. The masks are kept.") from error
    return number


def _read(mask: Path) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    try:
        with Image.open(mask) as image:
            return np.asarray(image)
    except OSError as error:
        raise UserError(f"The mask {mask} cannot be read: {error}. Write it again with --overwrite.") from error


def _annotations(values: "np.ndarray[Any, np.dtype[np.uint8]]", classes: Sequence[int]) -> Iterator[dict[str, Any]]:
    for value in classes:
        inside = values == value
        if not inside.any():
            continue
        for ring in outlines(inside):
            (left, top), (right, bottom) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
            width, height = int(right - left), int(bottom - top)
            yield {
                "category_id": value,
                "iscrowd": 0,
                "area": int(fill(ring - (left, top), height, width).sum()),
                "bbox": [int(left), int(top), width, height],
                "segmentation": [[int(c) if c == int(c) else c for c in ring.ravel().tolist()]],
            }
