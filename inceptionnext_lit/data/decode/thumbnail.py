"""Small copies of images for reports."""

import base64
import io
from pathlib import Path

from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.decode.opening import MAX_PIXELS
from inceptionnext_lit.errors import UserError


def thumbnail(path: str | Path, side: int, max_pixels: int = MAX_PIXELS) -> str | None:
    """Return a small JPEG of an image file as a ``data:`` URL for HTML; None if the file cannot be read.

    Args:
        path: The file.
        side: Maximum width and height in pixels.
        max_pixels: Maximum number of pixels of the file.
    """
    try:
        image = load_image(path, max_pixels=max_pixels)
    except UserError:
        return None
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
