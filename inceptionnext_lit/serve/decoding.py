"""Decode the images of requests like ``predict`` reads files, within limits, and without writing a file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import UnidentifiedImageError
from PIL.ImageFile import ImageFile

from inceptionnext_lit.data.decode.arrays import StoredArray, is_array_start, parse_array
from inceptionnext_lit.data.decode.image import failure_reason, without_warnings
from inceptionnext_lit.data.decode.opening import TooManyPixelsError, identify
from inceptionnext_lit.data.decode.signatures import SIGNATURE_LENGTH, is_heif_start, is_image_start

TOO_LARGE, UNSUPPORTED, BROKEN = 413, 415, 422  # HTTP's codes


class Rejected(Exception):
    """An image that cannot be labeled.

    Args:
        status: HTTP's code: 413 for too many pixels, 415 for something that is not an image, 422 for a broken one.
        reason: Why, as a sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Opened:
    """An image whose header was read.

    Attributes:
        image: The image, as a classifier takes it; a picture is not decoded yet.
        pixels: Number of pixels.
    """

    image: ImageFile | StoredArray
    pixels: int

    def decode(self) -> None:
        """Decode the picture.

        The classifier makes it upright and converts its mode, by the same code that ``predict`` uses for files.

        Raises:
            Rejected: If it is damaged.
        """
        if isinstance(self.image, ImageFile):
            with _rejecting():
                self.image.load()


def open_image_bytes(content: bytes, channels: int, max_pixels: int) -> Opened:
    """Read the header of an image.

    Args:
        content: The content of an image file.
        channels: Number of channels of the model's input. For other numbers than 3, TIFFs and NumPy arrays are read
            as :func:`load_image` does.
        max_pixels: Maximum number of pixels.

    Raises:
        Rejected: If it is not an image in a supported format, is damaged, or has too many pixels.
    """
    head = content[:SIGNATURE_LENGTH]
    if not content:
        raise Rejected(BROKEN, "The image is empty.")
    if not is_image_start(head) and (channels == 3 or not is_array_start(head)):
        raise Rejected(UNSUPPORTED, "This is not an image of a known format, such as JPEG, PNG or WebP.")
    with _rejecting(is_heif=is_heif_start(head)):
        stored = None if channels == 3 else parse_array(content, channels, max_pixels)
        if stored is not None:
            return Opened(stored, stored.pixels.shape[1] * stored.pixels.shape[2])
        image = identify(io.BytesIO(content), max_pixels)
        return Opened(image, image.width * image.height)


@contextmanager
def _rejecting(*, is_heif: bool = False) -> Iterator[None]:
    """Turn any error of a decoder into a reason."""
    try:
        with without_warnings():
            yield
    except TooManyPixelsError as error:
        size = "too many pixels" if error.size is None else f"{error.size[0]:,}×{error.size[1]:,} pixels"
        reason = f"The image has {size}; the limit is {error.limit:,} (--max_pixels)."
        raise Rejected(TOO_LARGE, reason) from error
    except MemoryError as error:
        raise Rejected(TOO_LARGE, "The image does not fit into memory.") from error
    except Exception as error:  # decoders raise almost any type on damaged data
        is_unsupported = is_heif and isinstance(error, UnidentifiedImageError)
        reason = failure_reason(error).rstrip(".")
        raise Rejected(UNSUPPORTED if is_unsupported else BROKEN, f"The image cannot be read: {reason}.") from error
