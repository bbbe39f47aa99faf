"""How masks are stored."""

from dataclasses import dataclass
from typing import Final, Literal

from inceptionnext_lit.choices import check_choices
from inceptionnext_lit.data.checks import check
from inceptionnext_lit.preprocessing import IGNORED

MaskKind = Literal["index", "palette", "binary", "color", "coco", "labelme", "yolo"]

POLYGONS: Final = ("coco", "labelme", "yolo")
"""Kinds of masks that are stored as polygons."""


@dataclass(frozen=True)
class MaskOptions:
    """How the masks of a data set are stored.

    Attributes:
        kind: ``index`` for the class's index as the gray level, ``palette`` for images with a palette, whose values are
            indices, ``binary`` for 0 and 255 and two classes, ``color`` for a color per class, ``coco``, ``labelme``
            and ``yolo`` for polygons; ``auto`` detects it.
        classes: A table of the classes with the columns ``name``, ``r``, ``g``, ``b`` and optionally ``value``;
            ``None``: ``classes.csv`` in the data folder if there is one.
        reduce_zero_label: Whether the value 0 means that a pixel has no label, and 1 is the first class, as in ADE20K.
        ignore_index: The value of ignored pixels in the files.

    Raises:
        UserError: If a value is out of its range.
    """

    kind: Literal["auto", "index", "palette", "binary", "color", "coco", "labelme", "yolo"] = "auto"
    classes: str | None = None
    reduce_zero_label: bool = False
    ignore_index: int = IGNORED

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_choices(self, "data.masks")
        check("masks.ignore_index", self.ignore_index, 0 <= self.ignore_index <= 255, "from 0 to 255")
        is_index = self.kind in ("auto", "index", "palette")
        check("masks.reduce_zero_label", self.reduce_zero_label, is_index or not self.reduce_zero_label,
              f"false for masks of kind {self.kind}")  # fmt: skip
