"""Look at a mask file: its size, its values or colors, and whether it can be a mask at all."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.data.decode.image import failure_reason, without_warnings
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, TooManyPixelsError, open_image

Pixels = NDArray[np.uint8]
Packed = NDArray[np.uint32]
"""Colors as 65536 red + 256 green + blue."""

MOST_COLORS = 256
_GRAY = ("1", "L", "LA")
_COLOR = ("RGB", "RGBA")
_LOSSY = ("JPEG", "MPO")


@dataclass(frozen=True, slots=True)
class StoredMask:
    """What a mask file contains, decoded but not interpreted.

    Attributes:
        path: The file.
        size: Width and height in pixels.
        mode: Pillow's mode.
        values: Pixels of each value, in files of a single channel.
        colors: Pixels of each color, packed, in files of three channels.
        palette: The color of each used value, packed, in files with a palette.
        digest: Hash of the pixels.
        kind: The kind of problem, as the doctor calls it; empty if the file can be read as a mask.
        error: The problem as the end of a sentence.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    values: dict[int, int] = field(default_factory=dict)
    colors: dict[int, int] = field(default_factory=dict)
    palette: dict[int, int] = field(default_factory=dict)
    digest: int = 0
    kind: str = ""
    error: str = ""

    @property
    def is_gray(self) -> bool:
        """Whether all colors of a file with three channels are gray, so that it may have values instead."""
        return all(color % 0x010101 == 0 for color in self.colors)

    @property
    def gray_values(self) -> dict[int, int]:
        """Pixels of each value, also of a gray file with three channels."""
        return {color & 255: pixels for color, pixels in self.colors.items()} if self.colors else self.values


class NotAMaskError(ValueError):
    """A picture that cannot be a mask.

    Args:
        kind: The kind of problem, as the doctor calls it.
        reason: Why, as the end of a sentence.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def look(path: str, max_pixels: int = MAX_PIXELS) -> StoredMask:
    """Decode a mask file, without raising for its content.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels.
    """
    try:
        with without_warnings(), open_image(path, max_pixels) as image:
            size = image.size
            pixels = stored_pixels(image)
            palette = _used_palette(image, pixels) if image.mode == "P" else {}
            mode = image.mode
    except NotAMaskError as error:
        return StoredMask(path, kind=error.kind, error=str(error))
    except Exception as error:  # decoders raise almost any type on damaged data
        reason = error.problem if isinstance(error, TooManyPixelsError) else failure_reason(error)
        return StoredMask(path, kind="unreadable", error=f"cannot be read: {reason.rstrip('.')}")
    digest = int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=7).digest(), "little")
    if pixels.ndim == 2:
        return StoredMask(path, size, mode, values=_histogram(pixels), palette=palette, digest=digest)
    counted: Any = Image.fromarray(pixels).getcolors(MOST_COLORS)
    if counted is None:
        reason = (
            f"has more than {MOST_COLORS} colors, so it is a photo, or was resized or compressed with a loss; save it "
            "without smoothing, as PNG"
        )
        return StoredMask(path, size, mode, kind="mask_colors", error=reason)
    colors = {red << 16 | green << 8 | blue: count for count, (red, green, blue) in counted}
    return StoredMask(path, size, mode, colors=dict(sorted(colors.items())), digest=digest)


def stored_pixels(image: Image.Image) -> Pixels:
    """Return the values (H, W) or the colors (H, W, 3) of a mask as they are stored; a palette stays indices.

    Args:
        image: The opened file.

    Raises:
        NotAMaskError: If it cannot be a mask.
    """
    if image.format in _LOSSY:
        raise NotAMaskError("mask_jpeg", "is a JPEG, whose compression changes values; save masks as PNG")
    if image.mode.startswith("I"):
        bits = 16 if "16" in image.mode else 32
        raise NotAMaskError(
            "mask_depth", f"has {bits} bits per pixel, and masks have 8; save the classes as 0 to 254 with 8 bits"
        )
    if image.mode not in (*_GRAY, *_COLOR, "P"):
        raise NotAMaskError("mask_depth", f"has the pixel mode {image.mode}; save masks as 8-bit gray or RGB PNG")
    if image.mode in ("LA", "RGBA"):
        low: Any = image.getchannel("A").getextrema()
        if low[0] < 255:
            raise NotAMaskError(
                "mask_transparent", "has transparent pixels, which have no class; save it without alpha"
            )
    wanted = {"1": "L", "LA": "L", "RGBA": "RGB"}.get(image.mode)
    return np.asarray(image if wanted is None else image.convert(wanted))


def packed(colors: Pixels) -> Packed:
    """Pack colors (…, 3) into numbers (…)."""
    weights = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    result: Packed = colors.astype(np.uint32) @ weights
    return result


def pack(color: Sequence[int]) -> int:
    """Pack a color into a number."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack(color: int) -> tuple[int, int, int]:
    """Return the red, green and blue of a packed color."""
    return color >> 16, color >> 8 & 255, color & 255


def palette_of(image: Image.Image) -> Packed:
    """Return the packed color of each value of an image with a palette; (256,), 0 beyond the palette."""
    levels = (image.getpalette("RGB") or [])[: 3 * 256]
    colors = np.zeros((256, 3), dtype=np.uint8)
    colors[: len(levels) // 3] = np.array(levels, dtype=np.uint8).reshape(-1, 3)
    return packed(colors)


def _used_palette(image: Image.Image, pixels: Pixels) -> dict[int, int]:
    colors = palette_of(image)
    return {value: int(colors[value]) for value in _histogram(pixels)}


def _histogram(pixels: Pixels) -> dict[int, int]:
    counts = Image.fromarray(pixels).histogram()
    return {value: count for value, count in enumerate(counts) if count}
