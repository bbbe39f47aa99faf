"""Decide what the values or colors of a data set's masks mean, and read masks accordingly."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from inceptionnext_lit.data.checks import enumerate_names
from inceptionnext_lit.data.decode.image import reading
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, open_image
from inceptionnext_lit.data.masks.class_table import colormap
from inceptionnext_lit.data.masks.options import MaskKind
from inceptionnext_lit.data.masks.stored import (
    NotAMaskError,
    Pixels,
    StoredMask,
    packed,
    palette_of,
    stored_pixels,
    unpack,
)
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import IGNORED

UNKNOWN = 254
"""Value in the look-up tables for what has no meaning; so there are at most 254 classes."""


@dataclass(frozen=True)
class Scheme:
    """What the values or colors of masks mean.

    Attributes:
        kind: The kind of the masks.
        names: Class names in index order.
        palette: Color of each class.
        of_value: Class index of each value that has a meaning; 255 for ignored pixels.
        of_color: The same for packed colors; empty unless the masks are read by color.
        notes: What was found and decided, in sentences.
        is_named: Whether the names are from a table or from annotations, rather than made up.
    """

    kind: MaskKind
    names: list[str]
    palette: list[list[int]]
    of_value: Mapping[int, int]
    of_color: Mapping[int, int]
    notes: tuple[str, ...] = ()
    is_named: bool = True

    def counts(self, mask: StoredMask) -> dict[int, int]:
        """Count the pixels of each class in a mask; those with an unknown value or color have the key ``UNKNOWN``."""
        counts: Counter[int] = Counter()
        for index, pixels in zip(
            map(self._index(mask).get, self._found(mask)), self._found(mask).values(), strict=True
        ):
            counts[UNKNOWN if index is None else index] += pixels
        return dict(sorted(counts.items()))

    def unknown(self, mask: StoredMask) -> dict[str, int]:
        """Return the values or colors of a mask that have no meaning, as text, with their numbers of pixels."""
        known = self._index(mask)
        found = {value: pixels for value, pixels in self._found(mask).items() if value not in known}
        if known is self.of_color or not mask.is_gray:
            return {str(unpack(color)): pixels for color, pixels in found.items()}
        return {str(value): pixels for value, pixels in found.items()}

    def read(self, path: str, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Read a mask as class indices, uint8 (H, W), with 255 for ignored pixels.

        Raises:
            UserError: If it cannot be read, or has a value or color without a meaning.
        """
        with reading(path), open_image(path, max_pixels) as image:
            try:
                pixels = stored_pixels(image)
            except NotAMaskError as error:
                raise UserError(f"{path} {error}.") from error
            colors = palette_of(image) if image.mode == "P" and self.of_color else None
        if colors is not None:
            indices = self._look_up(colors)[pixels]
        elif pixels.ndim == 3 and self.of_color:
            indices = self._look_up(packed(pixels))
        elif pixels.ndim == 3:
            is_gray = (pixels == pixels[..., :1]).all(axis=2)
            indices = np.where(is_gray, self._values[pixels[..., 0]], np.uint8(UNKNOWN))
        else:
            indices = self._values[pixels]
        if (indices == UNKNOWN).any():
            raise UserError(
                f"{path} has other values than when the masks were checked; start again to check them anew."
            )
        return indices

    def relabeled(self, names: Sequence[str]) -> "Scheme":
        """Return the same scheme for classes in another order, with more of them if need be.

        Args:
            names: The class names in the wanted order.

        Raises:
            UserError: If classes of the masks are not among them.
        """
        if list(names) == self.names:
            return self
        if not self.is_named:
            if len(names) < len(self.names):
                raise UserError(
                    f"The masks have {len(self.names)} classes, but {len(names)} class names were given: "
                    f"{enumerate_names(list(names))}."
                )
            palette = [*self.palette, *colormap(len(names))[len(self.palette) :]]
            return replace(self, names=list(names), palette=palette, is_named=True)
        if unknown := [name for name in self.names if name not in names]:
            raise UserError(
                f"The masks have classes that the checkpoint (or the given list of class names) does not have: "
                f"{enumerate_names(unknown)}. Known are {enumerate_names(list(names))}."
            )
        place = {old: list(names).index(name) for old, name in enumerate(self.names)} | {IGNORED: IGNORED}
        palette = colormap(len(names))
        for old, color in enumerate(self.palette):
            palette[place[old]] = color
        return replace(
            self,
            names=list(names),
            palette=palette,
            of_value={value: place[index] for value, index in self.of_value.items()},
            of_color={color: place[index] for color, index in self.of_color.items()},
            notes=(*self.notes, "The classes are numbered as in the given list of class names."),
        )

    def _index(self, mask: StoredMask) -> Mapping[int, int]:
        if not mask.is_gray and not self.of_color:
            return {}
        return self.of_color if self.of_color and (mask.colors or mask.palette) else self.of_value

    def _found(self, mask: StoredMask) -> dict[int, int]:
        if self._index(mask) is self.of_value:
            return mask.gray_values
        if mask.colors:
            return mask.colors
        colors: Counter[int] = Counter()
        for value, pixels in mask.values.items():
            colors[mask.palette[value]] += pixels
        return dict(colors)

    @cached_property
    def _values(self) -> Pixels:
        table = np.full(256, UNKNOWN, dtype=np.uint8)
        table[list(self.of_value)] = list(self.of_value.values())
        return table

    def _look_up(self, colors: np.ndarray) -> Pixels:
        known = np.array(sorted(self.of_color), dtype=np.uint32)
        indices = np.array([self.of_color[color] for color in known.tolist()], dtype=np.uint8)
        places = np.searchsorted(known, colors).clip(max=len(known) - 1)
        return np.where(known[places] == colors, indices[places], np.uint8(UNKNOWN))


def place_of(masks: Iterable[StoredMask]) -> Path:
    """Return the folder of the first mask, for messages."""
    return Path(next(iter(masks)).path).parent
