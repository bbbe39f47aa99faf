"""Open image files safely, with a fixed list of formats and a limit on the number of pixels.

By default, ``Image.open`` tries some forty formats regardless of the file's name: an EPS file called ``photo.jpg``
would be run by Ghostscript.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from PIL import (
    AvifImagePlugin,  # noqa: F401 - importing a plugin registers its format; if one is missing, Pillow imports all
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from inceptionnext_lit.data.decode.signatures import SIGNATURE_LENGTH, is_heif_start, is_image_start

MAX_PIXELS: Final = 120_000_000
"""Default of ``data.bad_images.max_pixels``, above the 108 million of many phones; a pixel takes about 14 bytes."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000")
"""Pillow's names of the supported formats. None of them runs a program; JPEG includes MPO."""

HEIF: Final = "HEIF"
"""Pillow's name of another format, which requires the package pillow-heif."""

HEIF_COMMAND: Final = "pip install pillow-heif"


class TooManyPixelsError(ValueError):
    """An image with more pixels than ``data.bad_images.max_pixels``.

    Args:
        limit: Maximum number of pixels.
        size: Width and height, if known.

    Attributes:
        problem: The message without the key, for commands that do not have it.
    """

    def __init__(self, limit: int, size: tuple[int, int] | None = None) -> None:
        self.limit = limit
        self.size = size
        what = "more pixels" if size is None else f"{size[0]:,}×{size[1]:,} pixels, more"
        self.problem = f"it has {what} than the limit of {limit:,}"
        super().__init__(f"it has {what} than data.bad_images.max_pixels allows ({limit:,})")


@contextmanager
def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[ImageFile.ImageFile]:
    """Open an image file for the duration of the block, without decoding its pixels.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels.

    Raises:
        UnidentifiedImageError: If its content is not in a supported format.
        TooManyPixelsError: If it has more pixels than allowed.
        OSError: If it cannot be read, or is not a regular file.
    """
    with open_regular(path) as file, identify(file, max_pixels) as image:
        yield image


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; refuse pipes and devices, which might never end.

    Raises:
        OSError: If it cannot be opened, or is not a regular file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # for a folder, open raises the error
        raise OSError("it is not a regular file")
    return open(path, "rb")


def has_image_signature(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like an image in a supported format; False if it cannot be opened.

    Args:
        path: The file; only its first bytes are read.
    """
    try:
        with open_regular(path) as file:
            return is_image_start(file.read(SIGNATURE_LENGTH))
    except OSError:
        return False


def identify(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Return the image in an open file, reading only its header.

    Args:
        file: The file; it stays open.
        max_pixels: Maximum number of pixels.

    Raises:
        UnidentifiedImageError: If the content is not in a supported format.
        TooManyPixelsError: If it has more pixels than allowed.
    """
    pillows_limit = Image.MAX_IMAGE_PIXELS  # it decodes up to twice this number
    if pillows_limit is not None and 2 * pillows_limit < max_pixels:
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    try:
        image = _open(file)
        size = image.ico.getimage(image.size).size if isinstance(image, IcoImagePlugin.IcoImageFile) else image.size
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(max_pixels) from error
    check_size(size, max_pixels)
    return image


def _open(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        if not is_heif_start(file.read(SIGNATURE_LENGTH)):
            raise UnidentifiedImageError("its content is not an image of a known format") from error
    try:
        import pillow_heif  # optional dependency
    except ImportError as error:
        raise UnidentifiedImageError(f"it is a HEIC picture, which can be read after: {HEIF_COMMAND}") from error
    pillow_heif.register_heif_opener()
    file.seek(0)
    return Image.open(file, formats=(HEIF,))


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image with too many pixels.

    Args:
        size: Width and height.
        max_pixels: Maximum number of pixels.

    Raises:
        TooManyPixelsError: If it has more.
    """
    if size[0] * size[1] > max_pixels:
        raise TooManyPixelsError(max_pixels, size)
