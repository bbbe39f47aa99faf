"""Find 16-bit images that become almost black, since their values have fewer bits (cameras and scanners: 10 to 14)."""

import warnings
from pathlib import Path

from PIL import Image

DARK_LEVEL = 16  # of 255, which 12 bits reach
_warned = False


def has_16_bits(image: Image.Image) -> bool:
    """Return whether a channel of an image has 16 bits, as long as its pixels are not loaded.

    Pillow's mode does not tell the depth of color images, but the layout of the stored data does.

    Args:
        image: An opened image.
    """
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def is_dark(picture: Image.Image) -> bool:
    """Return whether no level of a picture exceeds 16 of 255, but it is not black.

    Args:
        picture: A picture of mode L, LA, RGB or RGBA.
    """
    colors = picture.getchannel("L") if picture.mode == "LA" else picture
    bands = colors.split()[:3]
    return 0 < max(int(band.getextrema()[1]) for band in bands) <= DARK_LEVEL  # type: ignore[arg-type]


def warn_of_dark(path: str | Path) -> None:
    """Warn once in a process that a 16-bit image is almost black.

    Args:
        path: The file.
    """
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"The 16-bit image {path} is read almost black: no value exceeds a sixteenth of the range. If its values "
            "have 12 bits or fewer, scale them to 16 bits, or save it with 8 bits. Others like it are not reported.",
            stacklevel=3,
        )
