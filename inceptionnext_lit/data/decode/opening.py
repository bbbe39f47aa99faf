"""The one place where an image file is opened: in a format of a fixed list, and with no more pixels than a limit.

Left to itself, ``Image.open`` tries some forty formats, whatever the file's name: an EPS file called ``photo.jpg``
would be run by Ghostscript.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from PIL import (
    AvifImagePlugin,  # noqa: F401 - a plugin adds its format as it is imported; of a missing one, Pillow imports all
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
"""The default of ``data.bad_images.max_pixels``, above the 108 million of many phones; a pixel takes about 14 bytes."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000")
"""Pillow's names of the formats that are read. None of them runs a program; JPEG includes MPO."""

HEIF: Final = "HEIF"
"""Pillow's name of one more, which takes the package pillow-heif."""

HEIF_COMMAND: Final = "pip install pillow-heif"


class TooManyPixelsError(ValueError):
    """An image with more pixels than ``data.bad_images.max_pixels``.

    Args:
        limit: The most pixels that are allowed.
        size: Width and height, if they are known.
    """

    def __init__(self, limit: int, size: tuple[int, int] | None = None) -> None:
        what = "more pixels" if size is None else f"{size[0]:,}×{size[1]:,} pixels, more"
        super().__init__(f"it has {what} than data.bad_images.max_pixels allows ({limit:,})")


@contextmanager
def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file for as long as the block lasts; its pixels are not decoded yet.

    Args:
        path: The file.
        max_pixels: The most pixels that it may have.

    Raises:
        UnidentifiedImageError: If its content is in no format that is read.
        TooManyPixelsError: If it has more pixels than allowed.
        OSError: If it cannot be read, or is no regular file.
    """
    with open_regular(path) as file, identify(file, max_pixels) as image:
        yield image


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading; a pipe or a device, which might never end, is refused.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder, open has the words
        raise OSError("it is not a regular file")
    return open(path, "rb")


def has_image_signature(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as an image in a format that is read; False for what cannot be opened.

    Args:
        path: The file, of whose content only the first bytes are read.
    """
    try:
        with open_regular(path) as file:
            return is_image_start(file.read(SIGNATURE_LENGTH))
    except OSError:
        return False


def identify(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """The image in an open file, of which nothing but the header is read.

    Args:
        file: The file; it stays open.
        max_pixels: The most pixels that the image may have.

    Raises:
        UnidentifiedImageError: If the content is in no format that is read.
        TooManyPixelsError: If it has more pixels than allowed.
    """
    pillows_limit = Image.MAX_IMAGE_PIXELS  # up to twice as many it decodes
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
            raise UnidentifiedImageError("its content is no image of a known format") from error
    try:
        import pillow_heif  # an extra
    except ImportError as error:
        raise UnidentifiedImageError(f"it is a HEIC picture, which can be read after: {HEIF_COMMAND}") from error
    pillow_heif.register_heif_opener()
    file.seek(0)
    return Image.open(file, formats=(HEIF,))


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuses an image from its size.

    Args:
        size: Width and height.
        max_pixels: The most pixels that it may have.

    Raises:
        TooManyPixelsError: If it has more.
    """
    if size[0] * size[1] > max_pixels:
        raise TooManyPixelsError(max_pixels, size)
