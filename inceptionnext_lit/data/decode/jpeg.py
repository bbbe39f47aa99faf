"""The fast way into a JPEG file: its size first, then the pixels of one crop, at no more than the size that takes.

Only plain JPEGs go this way, and only as long as the decoder has nothing to remark. Everything else, damaged files
among it, is left to :func:`load_image`, so that what is refused, and with which words, does not depend on the way.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from simplejpeg import decode_jpeg

from inceptionnext_lit.data.decode.image import without_warnings
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, identify, open_regular
from inceptionnext_lit.data.decode.signatures import SIGNATURE_LENGTH, is_jpeg_start

_SCALES = (8, 4, 2)  # of libjpeg-turbo's divisors of the side those with vector code; 8/7 to 8/5 are slower than 1

# what to do with stored pixels to set them upright: mirror columns, mirror rows, then exchange rows and columns
_UPRIGHT = {
    1: (False, False, False),
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file of which no pixel is decoded yet.

    Attributes:
        content: The whole file.
        width: Width of the stored picture in pixels.
        height: Its height.
        orientation: EXIF's number for how it is to be shown.
    """

    content: bytes
    width: int
    height: int
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture in pixels."""
        return (self.height, self.width) if _UPRIGHT[self.orientation][2] else (self.width, self.height)

    def crop(self, top: int, left: int, height: int, width: int, at_least: int) -> NDArray[np.uint8] | None:
        """Decodes a crop, scaled by 1/2, 1/4 or 1/8 if it stays large enough; its edges are then rounded to that grid.

        Args:
            top: First row of the crop in the upright picture.
            left: Its first column.
            height: Its rows.
            width: Its columns.
            at_least: Pixels per side below which it is not scaled down.

        Returns:
            An upright RGB array (H, W, 3), or None where the decoder has remarks, as it has on damaged files.
        """
        mirror_columns, mirror_rows, exchange = _UPRIGHT[self.orientation]
        if exchange:
            top, left, height, width = left, top, width, height
        left = self.width - left - width if mirror_columns else left
        top = self.height - top - height if mirror_rows else top
        scale, rows, columns = 1, slice(top, top + height), slice(left, left + width)
        for tried in _SCALES:
            scaled = [slice(round(s.start / tried), round(s.stop / tried)) for s in (rows, columns)]
            if min(s.stop - s.start for s in scaled) >= at_least:
                scale, (rows, columns) = tried, scaled
                break
        try:
            pixels: NDArray[np.uint8] = decode_jpeg(
                self.content, "RGB", min_height=-(-self.height // scale), min_width=-(-self.width // scale)
            )
        except ValueError:
            return None
        part = pixels[rows, columns]
        part = part[:, ::-1] if mirror_columns else part
        part = part[::-1] if mirror_rows else part
        return np.ascontiguousarray(part.swapaxes(0, 1) if exchange else part)


def open_jpeg(path: str, max_pixels: int = MAX_PIXELS, *, apply_exif: bool = True) -> Jpeg | None:
    """Reads a file's header; None if it is no JPEG in grey or YCbCr that can be opened.

    Args:
        path: The file.
        max_pixels: The most pixels that it may have.
        apply_exif: Whether EXIF's orientation is applied.
    """
    try:
        with open_regular(path) as file, without_warnings():
            head = file.read(SIGNATURE_LENGTH)
            if not is_jpeg_start(head):
                return None
            content = head + file.read()
            header: Any = identify(io.BytesIO(content), max_pixels)
            orientation = header.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # load_image finds the words for it
        return None
    if header.mode not in ("L", "RGB"):
        return None
    width, height = header.size
    return Jpeg(content, width, height, orientation if apply_exif and orientation in _UPRIGHT else 1)
