"""Fast JPEG decoding: read the size first, then decode a crop at the smallest sufficient scale.

Only for plain JPEGs, and only if the decoder does not warn. Everything else, including damaged files, is left to
:func:`load_image`, so that errors do not depend on the decoder.
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

_SCALES = (8, 4, 2)  # libjpeg-turbo's divisors with SIMD code; its fractional ones, 8/7 to 8/5, are slower than 1

# how to make stored pixels upright: flip columns, flip rows, then transpose
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
    """A JPEG file that is not decoded yet.

    Attributes:
        content: The whole file.
        width: Width of the stored picture in pixels.
        height: Its height.
        orientation: EXIF orientation, 1 to 8.
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
        """Decode a crop, scaled by 1/2, 1/4 or 1/8 if it stays large enough; its edges are then rounded to that grid.

        Args:
            top: First row of the crop in the upright picture.
            left: First column.
            height: Number of rows.
            width: Number of columns.
            at_least: Minimum number of pixels per side after scaling.

        Returns:
            An upright RGB array (H, W, 3), or None if the decoder warns, as it does for damaged files.
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
    """Read a file's header; return None unless it is a readable JPEG in grayscale or YCbCr.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels.
        apply_exif: Whether to apply the EXIF orientation.
    """
    try:
        with open_regular(path) as file, without_warnings():
            head = file.read(SIGNATURE_LENGTH)
            if not is_jpeg_start(head):
                return None
            content = head + file.read()
            header: Any = identify(io.BytesIO(content), max_pixels)
            orientation = header.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # load_image reports the error
        return None
    if header.mode not in ("L", "RGB"):
        return None
    width, height = header.size
    return Jpeg(content, width, height, orientation if apply_exif and orientation in _UPRIGHT else 1)
