"""Look at all images and masks of a split once, in parallel; the result is kept if that takes long."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import ExifTags

from inceptionnext_lit.data.decode.arrays import TENSOR_SUFFIXES
from inceptionnext_lit.data.decode.image import failure_reason, without_warnings
from inceptionnext_lit.data.decode.opening import MAX_PIXELS, open_image
from inceptionnext_lit.data.masks.stored import StoredMask, look
from inceptionnext_lit.machine import cache_folder, usable_cores
from inceptionnext_lit.safe_save import replacing

_VERSION = 2
_SLOW_S = 3.0  # surveys that took longer are kept
_STATS_AT_ONCE = 16  # network disks answer many requests at once
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_UPSIDE_DOWN = (2, 3, 4)  # those that do not: mirrored or rotated by 180°
_T = TypeVar("_T")
_R = TypeVar("_R")

Tick = Callable[[int], object]
"""Called with the number of files that were read since the last call."""


@dataclass(frozen=True, slots=True)
class SceneImage:
    """What is known of an image from its header.

    Attributes:
        path: The file.
        size: Width and height of the picture as training reads it; zeros if unknown.
        is_turned: Whether an EXIF orientation exchanges its width and height.
        keeps_size: Whether it has an EXIF orientation other than upright that leaves its width and height.
        error: Why it cannot be read; empty if it can.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    is_turned: bool = False
    keeps_size: bool = False
    error: str = ""


def look_at_image(path: str, max_pixels: int = MAX_PIXELS, *, apply_exif: bool = True) -> SceneImage:
    """Read the header of an image, without raising for its content.

    Args:
        path: The file.
        max_pixels: Maximum number of pixels.
        apply_exif: Whether training applies the EXIF orientation.
    """
    if path.lower().endswith(".npy"):
        return SceneImage(path)
    try:
        with without_warnings(), open_image(path, max_pixels) as image:
            width, height = image.size
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # decoders raise almost any type on damaged data
        if path.lower().endswith(TENSOR_SUFFIXES):  # Pillow has no mode for some TIFFs
            return SceneImage(path)
        return SceneImage(path, error=failure_reason(error))
    is_turned = orientation in _TURNED
    keeps_size = orientation in _UPSIDE_DOWN or (is_turned and width == height)
    return SceneImage(path, (height, width) if is_turned and apply_exif else (width, height), is_turned, keeps_size)


def look_at_images(
    paths: Sequence[str], max_pixels: int = MAX_PIXELS, *, apply_exif: bool = True, tick: Tick = lambda read: None
) -> list[SceneImage]:
    """Read the headers of images in parallel; arguments as in :func:`look_at_image`."""
    function = partial(look_at_image, max_pixels=max_pixels, apply_exif=apply_exif)
    return _kept(("images", max_pixels, apply_exif), paths, function, SceneImage, tick)


def look_at_masks(
    paths: Sequence[str], max_pixels: int = MAX_PIXELS, *, tick: Tick = lambda read: None
) -> list[StoredMask]:
    """Decode masks in parallel; arguments as in :func:`look`."""
    return _kept(("masks", max_pixels), paths, partial(look, max_pixels=max_pixels), StoredMask, tick)


def each(items: Sequence[_T], function: Callable[[_T], _R], tick: Tick = lambda read: None) -> list[_R]:
    """Call a function on each item in parallel, in threads, since decoding releases the lock of the interpreter."""
    results = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for result in pool.map(function, items):
            results.append(result)
            tick(1)
    return results


def identify(purpose: Iterable[object], paths: Sequence[str]) -> str:
    """Return a name for a result that depends on files: a hash of their paths, sizes and times of change.

    Args:
        purpose: What else it depends on.
        paths: The files.
    """
    digest = hashlib.blake2b(repr((_VERSION, *purpose)).encode(), digest_size=12)
    with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        for mark in pool.map(_mark, paths):
            digest.update(mark)
    return digest.hexdigest()


def _mark(path: str) -> bytes:
    try:
        status = os.stat(path)
    except OSError:
        return os.fsencode(f"{os.path.abspath(path)}\0missing\0")
    return os.fsencode(f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\0")


def _kept(
    purpose: tuple[object, ...], paths: Sequence[str], function: Callable[[str], _R], cls: type[_R], tick: Tick
) -> list[_R]:
    """Return the function's results, from the cache folder if they were kept there."""
    place = cache_folder() / "masks" / f"{identify(purpose, paths)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        rows = json.loads(place.read_bytes())
        if len(rows) == len(paths):
            found = [_restored(cls, path, row) for path, row in zip(paths, rows, strict=True)]
            tick(len(paths))
            return found
    start = time.monotonic()
    results = each(paths, function, tick)
    if time.monotonic() - start > _SLOW_S:
        rows = [{key: value for key, value in asdict(result).items() if key != "path"} for result in results]  # type: ignore[call-overload]
        with suppress(OSError), replacing(place) as partial_file:
            partial_file.write_text(json.dumps(rows), encoding="utf-8")
    return results


def _restored(cls: type[_R], path: str, row: dict[str, Any]) -> _R:
    fields: dict[str, Any] = {"path": path}
    for key, value in row.items():
        if isinstance(value, dict):
            value = {int(number): count for number, count in value.items()}
        fields[key] = tuple(value) if isinstance(value, list) else value
    return cls(**fields)
