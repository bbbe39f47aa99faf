"""Check a few arrays and TIFFs of a data set for values out of range and pixels without data."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from inceptionnext_lit.data.decode.arrays import TENSOR_SUFFIXES, find_missing, read_array
from inceptionnext_lit.data.decode.image import stored_nodata, without_warnings
from inceptionnext_lit.data.decode.opening import open_image
from inceptionnext_lit.data.sources.packed_strings import PackedStrings
from inceptionnext_lit.data.sources.scan import is_rank_zero
from inceptionnext_lit.preprocessing import Preprocessing

_NAMES = 2000  # paths searched for such files
_FILES = 32
_DEVIATIONS = 20


@dataclass
class _Seen:
    """What was found in the files.

    Attributes:
        nodata: Files that mark pixels without data, with the value.
        floats: Files of floats, with their minimum and maximum.
    """

    nodata: dict[str, float] = field(default_factory=dict)
    floats: dict[str, tuple[float, float]] = field(default_factory=dict)


def check_arrays(
    paths: PackedStrings | Sequence[str], preprocessing: Preprocessing, max_pixels: int, *, has_statistics: bool
) -> None:
    """Warn on rank 0 about floats out of range and about files that mark pixels without data.

    Floats are expected in [0, 1] by default, and within 20 standard deviations of the mean if mean and standard
    deviation were given.

    Args:
        paths: The image files, a few of which are read; unreadable ones are skipped.
        preprocessing: Mean, standard deviation and the value of pixels without data.
        max_pixels: Maximum number of pixels of an image.
        has_statistics: Whether mean and standard deviation were given for this data.
    """
    if not is_rank_zero():
        return
    spread = paths[:: max(1, len(paths) // _NAMES)]
    arrays = [path for path in spread if path.lower().endswith(TENSOR_SUFFIXES)]
    arrays = arrays[:: -(-len(arrays) // _FILES) or 1]
    seen = _Seen()
    for path in arrays:
        with suppress(Exception), without_warnings():  # errors are reported when the image is used
            _look(path, preprocessing, max_pixels, seen)
    _say_nodata(seen, len(arrays))
    _warn_of_range(seen, len(arrays), preprocessing, has_statistics)


def _look(path: str, preprocessing: Preprocessing, max_pixels: int, seen: _Seen) -> None:
    channels = len(preprocessing["mean"])
    given = preprocessing.get("nodata")
    stored = read_array(path, channels, max_pixels) if channels != 3 else None
    if stored is None:
        with open_image(path, max_pixels) as image:
            own = stored_nodata(image)
            if own is not None:
                seen.nodata[path] = own if given is None else given
        return
    value = stored.nodata if given is None else given
    missing = find_missing(stored.pixels, value)
    if value is not None and missing is not None:
        seen.nodata[path] = value
    if stored.pixels.dtype.kind == "f":
        values = stored.pixels if missing is None else stored.pixels[~missing]
        if values.size:
            seen.floats[path] = float(values.min()), float(values.max())


def _say_nodata(seen: _Seen, files: int) -> None:
    if seen.nodata:
        path, value = next(iter(seen.nodata.items()))
        warnings.warn(
            f"{len(seen.nodata)} of the {files} arrays and TIFFs that were checked mark pixels without data, such as "
            f"{path} with {value:g}; they become 0 after normalization.",
            stacklevel=3,
        )


def _warn_of_range(seen: _Seen, files: int, preprocessing: Preprocessing, has_statistics: bool) -> None:
    outside = [(path, *ends) for path, ends in seen.floats.items() if _is_outside(*ends, preprocessing, has_statistics)]
    if not outside:
        return
    low, high = min(least for _, least, _ in outside), max(most for _, _, most in outside)
    warnings.warn(
        f"{len(outside)} of the {files} arrays and TIFFs that were checked contain floats from {low:g} to {high:g}, "
        f"such as {outside[0][0]}; floats are not scaled, and data.input.mean and data.input.std "
        f"({_listed(preprocessing['mean'])} and {_listed(preprocessing['std'])}) do not fit them. Scale them to "
        "[0, 1], or give the mean and std of the data, and data.input.nodata if some values mean no data.",
        stacklevel=3,
    )


def _is_outside(low: float, high: float, preprocessing: Preprocessing, has_statistics: bool) -> bool:
    if not has_statistics:
        return not (low >= 0 and high <= 1)
    mean, std = np.array(preprocessing["mean"]), np.array(preprocessing["std"])
    return bool((low < (mean - _DEVIATIONS * std).min()) or (high > (mean + _DEVIATIONS * std).max()))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
