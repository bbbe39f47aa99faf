"""Read polygons of COCO, labelme and YOLO files."""

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inceptionnext_lit.data.masks.polygons import Ring, Shape, decode_runs
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED
from inceptionnext_lit.wording import listed

BACKGROUND = "background"
_BACKGROUNDS = frozenset({"background", "_background_", "__background__"})
_IGNORE = "__ignore__"  # labelme's label of pixels to ignore


def is_background(name: str) -> bool:
    """Return whether a class is the background, by its name."""
    return name.casefold() in _BACKGROUNDS


@dataclass(frozen=True)
class Outlined:
    """The objects of an image.

    Attributes:
        shapes: The objects.
        size: Width and height that the file says the image has; None if it does not.
    """

    shapes: Sequence[Shape]
    size: tuple[int, int] | None = None


class CocoFile:
    """A COCO file with the segmentations of many images.

    Args:
        path: The file.

    Attributes:
        names: The categories that have a segmentation, in the order of their ids.
        images: The entry of each image by its file name.

    Raises:
        UserError: If it cannot be read, or is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _json(path)
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
            raise UserError(f"{path} is not a COCO file: it must have images, annotations and categories.")
        self.images: dict[str, Mapping[str, Any]] = {str(entry["file_name"]): entry for entry in content["images"]}
        self._objects: dict[Any, list[Mapping[str, Any]]] = {}
        for one in content["annotations"]:
            self._objects.setdefault(one["image_id"], []).append(one)
        used = {one["category_id"] for one in content["annotations"]}
        categories = sorted(content["categories"], key=lambda category: category["id"])
        unknown = used - {category["id"] for category in categories}
        if unknown:
            raise UserError(f"{path} has annotations of the category {min(unknown)}, which is not in its categories.")
        # exports of Roboflow have a category that only groups the others
        groups = {one.get("supercategory") for one in categories}
        kept = [one for one in categories if one["id"] in used or one["name"] not in groups or len(categories) == 1]
        self._names = {category["id"]: str(category["name"]) for category in kept}
        self.names = list(self._names.values())

    def outlined(self, name: str, index: Mapping[str, int]) -> Outlined:
        """Return the objects of an image.

        Args:
            name: Its file name in the file.
            index: The index of each class.

        Raises:
            UserError: If a segmentation is missing or invalid.
        """
        entry = self.images[name]
        size = (int(entry["width"]), int(entry["height"])) if entry.get("width") and entry.get("height") else None
        shapes = [self._shape(one, name, index) for one in self._objects.get(entry["id"], [])]
        return Outlined(shapes, size)

    def _shape(self, one: Mapping[str, Any], name: str, index: Mapping[str, int]) -> Shape:
        category, found = self._names[one["category_id"]], one.get("segmentation")
        where = f"The annotation {one.get('id')} of {name} in {self.path}"
        label = index.get(BACKGROUND if is_background(category) else category)
        if label is None:
            raise UserError(f"{where} is a {category!r}, which is not among the classes: {listed(list(index))}.")
        try:
            if isinstance(found, dict):
                height, width = found["size"]
                return Shape(label, filled=(0, 0, decode_runs(found["counts"], int(height), int(width))))
            rings = [_ring(corners) for corners in found or []]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where} has an invalid segmentation: {error}.") from error
        if not rings:
            raise UserError(
                f"{where} has a box without a segmentation; segmentation needs polygons, so outline the objects or "
                "remove the annotation."
            )
        return Shape(label, rings)


def labelme_labels(path: str) -> list[str]:
    """Return the labels in a labelme file.

    Raises:
        UserError: If it is not a labelme file.
    """
    return [str(shape["label"]) for shape in _labelme(path)["shapes"]]


def read_labelme(path: str, index: Mapping[str, int]) -> Outlined:
    """Read a labelme file.

    Args:
        path: The file.
        index: The index of each class.

    Raises:
        UserError: If it is not such a file, or a shape has no area or an unknown label.
    """
    content = _labelme(path)
    width, height = content.get("imageWidth"), content.get("imageHeight")
    shapes = []
    for shape in content["shapes"]:
        label = str(shape["label"])
        number = IGNORED if label == _IGNORE else index.get(BACKGROUND if is_background(label) else label)
        if number is None:
            raise UserError(f"{path} has the label {label!r}, which is not among the classes: {listed(list(index))}.")
        try:
            shapes.append(_labelme_shape(shape, number))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(f"The shape {label!r} in {path} is invalid: {error}.") from error
    return Outlined(shapes, (int(width), int(height)) if width and height else None)


def yolo_indices(path: str) -> list[int]:
    """Return the class indices in a YOLO file; raises like :func:`read_yolo`."""
    return [index for index, _ in _yolo_lines(path)]


def read_yolo(path: str, size: tuple[int, int], indices: Sequence[int]) -> Outlined:
    """Read a YOLO file of polygons: a class index and corners relative to the image's size in each line.

    Args:
        path: The file.
        size: Width and height of the image.
        indices: Index in the mask of each class of the file.

    Raises:
        UserError: If a line is invalid, has a box, or an unknown class.
    """
    shapes = []
    for index, corners in _yolo_lines(path):
        if index >= len(indices):
            raise UserError(f"{path} has the class {index}, but there are {len(indices)} classes, from 0.")
        shapes.append(Shape(indices[index], [corners * size]))
    return Outlined(shapes)


def yolo_names(root: Path) -> list[str] | None:
    """Return the class names in a YOLO data set's ``data.yaml`` or the like; None if there is none.

    Raises:
        UserError: If it cannot be read.
    """
    import yaml

    for path in [*(root / name for name in ("data.yaml", "dataset.yaml", "data.yml")), *sorted(root.glob("*.yaml"))]:
        if not path.is_file():
            continue
        try:
            names = yaml.safe_load(path.read_text(encoding="utf-8")).get("names")
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read as YAML: {str(error).partition(chr(10))[0]}.") from error
        if isinstance(names, dict):
            names = [names[number] for number in sorted(names)]
        if isinstance(names, list) and names:
            return [str(name) for name in names]
    return None


def with_background(names: Sequence[str]) -> list[str]:
    """Return class names with a background in front, unless there is one; labelme's label for it is renamed."""
    kept = [name for name in names if name != _IGNORE]
    own = next(filter(is_background, kept), None)
    return [BACKGROUND, *(name for name in kept if name != own)]


def _json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error


def _labelme(path: str) -> Mapping[str, Any]:
    content = _json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        if isinstance(content, dict) and isinstance(content.get("objects"), list):  # as Supervisely writes them
            raise UserError(
                f"{path} has a list of objects, as in Supervisely's format, which is not read; export the project as "
                "COCO, or its masks as PNG files."
            )
        raise UserError(f"{path} is not a labelme file: it has no list of shapes.")
    return content


def _labelme_shape(shape: Mapping[str, Any], number: int) -> Shape:
    kind = shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    if kind not in _LABELME:
        raise ValueError(f"a {kind} has no area; draw a polygon")
    return _LABELME[kind](shape, points, number)


def _polygon(shape: Mapping[str, Any], points: Ring, number: int) -> Shape:
    return Shape(number, [_ring(points.ravel())])


def _rectangle(shape: Mapping[str, Any], points: Ring, number: int) -> Shape:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return Shape(number, [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])])


def _circle(shape: Mapping[str, Any], points: Ring, number: int) -> Shape:
    center, rim = points
    radius = math.dist(center, rim)
    angles = np.linspace(0, 2 * math.pi, 181)[:-1]
    return Shape(number, [center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)])


def _mask(shape: Mapping[str, Any], points: Ring, number: int) -> Shape:
    left, top = np.floor(points[0]).astype(int).tolist()
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as image:
        return Shape(number, filled=(top, left, np.asarray(image.convert("L")) > 0))


_LABELME: dict[str, Callable[[Mapping[str, Any], Ring, int], Shape]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}


def _ring(corners: Any) -> Ring:
    ring = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("a polygon needs three corners or more")
    return ring


def _yolo_lines(path: str) -> Iterator[tuple[int, Ring]]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            index, values = int(float(words[0])), np.array(words[1:], dtype=np.float64)
        except ValueError as error:
            raise UserError(f"Line {number} of {path} has something other than numbers.") from error
        if len(values) == 4:
            raise UserError(f"Line {number} of {path} has a box; segmentation needs polygons of three corners or more.")
        if len(values) < 6 or len(values) % 2 or index < 0 or not np.isfinite(values).all():
            raise UserError(f"Line {number} of {path} must have a class from 0, and x and y of three corners or more.")
        if values.min() < -0.01 or values.max() > 1.01:
            raise UserError(
                f"Line {number} of {path} has a corner outside 0 to 1; YOLO's corners are parts of the size."
            )
        yield index, values.reshape(-1, 2)
