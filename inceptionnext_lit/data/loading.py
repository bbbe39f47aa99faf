"""The one way in which an image file becomes pixels, whatever its mode."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from PIL import Image, ImageMath, ImageOps

from inceptionnext_lit.errors import UserError

_PLAIN_MODES = {"1", "L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_ALPHA_MODES = {"P", "LA", "PA", "RGBA", "RGBa"}
_INTEGER_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_MAX_16_BIT = 65535


def load_image(path: str | Path) -> Image.Image:
    """Reads an image file as upright 8-bit RGB.

    EXIF's orientation is applied; 16-bit grey is scaled to 8 bits (65535 becomes 255); transparent pixels
    show white; of an animation or a multi-page file, the first picture counts.

    Args:
        path: The image file; its content, not its name, tells the format.

    Returns:
        The picture in mode RGB.

    Raises:
        UserError: If the file cannot be read to its end, or its pixel values have no defined brightness.
    """
    try:
        with _without_remarks(), Image.open(path) as image:
            return upright_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise almost any type on damaged data
        reason = failure_reason(error)
        raise UserError(
            f"Cannot read the image {path}: {reason}. Replace the file with an intact image, or remove it."
        ) from error


def failure_reason(error: BaseException) -> str:
    """Why an image could not be read, in words.

    Args:
        error: What :func:`load_image` raised, or what Pillow did.
    """
    if isinstance(error, UserError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error) or repr(error)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turns any picture of Pillow's into what :func:`load_image` makes of its file.

    Raises:
        ValueError: If its pixel values have no defined brightness.
    """
    image.load()
    return _to_rgb(ImageOps.exif_transpose(image))


_open_files = 0
_counting = threading.Lock()
_filters = warnings.catch_warnings()


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Silences remarks on odd metadata, which each worker and epoch would repeat.

    The filters of warnings are the whole process's: of several threads the first one sets them, the last one resets.
    """
    global _open_files, _filters
    with _counting:
        _open_files += 1
        if _open_files == 1:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _counting:
            _open_files -= 1
            if _open_files == 0:
                _filters.__exit__(None, None, None)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _INTEGER_MODES:
        image = _scale_16_bit(image)
    if image.mode in _ALPHA_MODES or (image.mode in _PLAIN_MODES and "transparency" in image.info):
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    if image.mode in _PLAIN_MODES:
        return image.convert("RGB")
    raise ValueError(f"its pixel mode {image.mode} has no defined brightness; save it as 8-bit or 16-bit")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits, to the nearest value; a PNG's transparent grey becomes alpha."""
    values = image.convert("I")
    low, high = cast(tuple[int, int], values.getextrema())
    if low < 0 or high > _MAX_16_BIT:
        raise ValueError(
            f"its 32-bit pixel values reach from {low} to {high}, beyond 16 bits; save it as 8-bit or 16-bit"
        )
    grey: Image.Image = ImageMath.lambda_eval(lambda bands: (bands["v"] + 128) / 257, v=values).convert("L")
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = ImageMath.lambda_eval(lambda bands: (bands["v"] != transparent) * 255, v=values).convert("L")
    return Image.merge("LA", (grey, alpha))
