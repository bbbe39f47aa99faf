"""The classes of public data sets for segmentation, by their layout on disk."""

from pathlib import Path

from inceptionnext_lit.data.masks.class_table import ClassTable, Color, colormap
from inceptionnext_lit.data.masks.layouts import SceneLayout
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED

_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# name, color and label id, in the order of the train ids (cityscapesScripts, helpers/labels.py)
_CITYSCAPES: tuple[tuple[str, Color, int], ...] = (
    ("road", (128, 64, 128), 7),
    ("sidewalk", (244, 35, 232), 8),
    ("building", (70, 70, 70), 11),
    ("wall", (102, 102, 156), 12),
    ("fence", (190, 153, 153), 13),
    ("pole", (153, 153, 153), 17),
    ("traffic light", (250, 170, 30), 19),
    ("traffic sign", (220, 220, 0), 20),
    ("vegetation", (107, 142, 35), 21),
    ("terrain", (152, 251, 152), 22),
    ("sky", (70, 130, 180), 23),
    ("person", (220, 20, 60), 24),
    ("rider", (255, 0, 0), 25),
    ("car", (0, 0, 142), 26),
    ("truck", (0, 0, 70), 27),
    ("bus", (0, 60, 100), 28),
    ("train", (0, 80, 100), 31),
    ("motorcycle", (0, 0, 230), 32),
    ("bicycle", (119, 11, 32), 33),
)
_CITYSCAPES_IDS = 34
ADE20K_NAMES = "objectInfo150.txt"


def known_table(layout: SceneLayout, mask_name: str) -> ClassTable | None:
    """Return the classes of a public data set that a folder's layout is that of; None for other folders.

    Args:
        layout: The folder's layout.
        mask_name: The name of a mask without its suffix, which says which of Cityscapes' masks it is.

    Raises:
        UserError: If ADE20K's file of names is invalid.
    """
    if layout.form == "voc" and layout.root.name.upper().startswith("VOC"):
        return ClassTable(layout.root, list(_VOC), [(r, g, b) for r, g, b in colormap(len(_VOC))])
    if layout.form == "cityscapes":
        names, colors, ids = (list(column) for column in zip(*_CITYSCAPES, strict=True))
        if mask_name.endswith("TrainIds"):
            return ClassTable(layout.root, names, colors)
        others = tuple(value for value in range(_CITYSCAPES_IDS) if value not in ids)
        return ClassTable(layout.root, names, colors, ids, ignored_values=(*others, IGNORED))
    if layout.form == "ade20k" and (layout.root / ADE20K_NAMES).is_file():
        return ClassTable(layout.root / ADE20K_NAMES, ade20k_names(layout.root / ADE20K_NAMES))
    return None


def ade20k_names(path: Path) -> list[str]:
    """Read the names of ADE20K's 150 classes: the first of each class's synonyms that no other class has.

    Args:
        path: ``objectInfo150.txt``.

    Raises:
        UserError: If it has no such list.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    rows = [line.strip().split("\t") for line in lines if line.strip()[:1].isdigit()]
    synonyms = [[word.strip() for word in row[-1].replace(";", ",").split(",") if word.strip()] for row in rows]
    if not rows or not all(synonyms):
        raise UserError(f"{path} does not list ADE20K's classes, one in each line, with tabs; download it again.")
    names: list[str] = []
    for words in synonyms:
        names.append(next((word for word in words if word not in names), f"{words[0]} {len(names) + 1}"))
    return names
