"""Heat maps of exported files, which have no gradients, by occlusion (arXiv 1311.2901), with numpy alone."""

import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.predict.exported import ExportedClassifier
from inceptionnext_lit.reports.explain.overlay import Heat

_STEPS = 8  # parts of a side; a window covers two of them and moves by one, so that there are 7 × 7 windows
_AT_ONCE = 8  # images per batch
_LEAST = 1e-6  # of a probability and its complement, whose logarithm is taken


def occlusion(
    classifier: ExportedClassifier, picture: Image.Image, target: int | None
) -> tuple[NDArray[np.uint8], Heat]:
    """Return the heat map of a picture: how much the class loses when a window of the mean color covers a place.

    The loss is that of the class's log-odds, the mean over the windows that cover the place.

    Args:
        classifier: The model.
        picture: The picture, upright and with the model's channels.
        target: Index of the class; None for the predicted one.

    Returns:
        The pixels that the map is of, (H, W, C), and the map, (H, W), in [0, 1]; all 0 if nothing speaks for the class.

    Raises:
        UserError: If the model's outputs are NaN or infinite.
    """
    pixels = classifier.pixels_at_scale(picture)
    mean = [round(255 * value) for value in classifier.preprocessing["mean"]]
    rows, columns = (np.linspace(0, side, _STEPS + 1).round().astype(int) for side in pixels.shape[:2])
    [whole] = _scores(classifier, [pixels])
    place = int(whole.argmax()) if target is None else target
    loss = np.zeros((_STEPS, _STEPS))
    windows = list(itertools.product(range(_STEPS - 1), repeat=2))
    for start in range(0, len(windows), _AT_ONCE):
        some = windows[start : start + _AT_ONCE]
        covered = [pixels.copy() for _ in some]
        for image, (top, left) in zip(covered, some, strict=True):
            image[rows[top] : rows[top + 2], columns[left] : columns[left + 2]] = mean
        for scores, (top, left) in zip(_scores(classifier, covered), some, strict=True):
            loss[top : top + 2, left : left + 2] += whole[place] - scores[place]
    windows_along = np.minimum(np.arange(_STEPS), np.arange(_STEPS)[::-1]).clip(0, 1) + 1  # 1 at the ends, else 2
    heat: Heat = (loss / np.outer(windows_along, windows_along)).clip(0).astype(np.float32)
    if heat.any():
        heat /= heat.max()
    return pixels, np.array(Image.fromarray(heat).resize(pixels.shape[1::-1], Image.Resampling.BILINEAR))


def _scores(classifier: ExportedClassifier, images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the log-odds of the classes, (N, K)."""
    found = classifier.probabilities([classifier.from_pixels(image) for image in images]).astype(np.float64)
    if not np.isfinite(found).all():
        raise UserError("The model's outputs are NaN or infinite; check the pixel values, or export the model anew.")
    odds: NDArray[np.float64] = np.log(found.clip(_LEAST, 1)) - np.log((1 - found).clip(_LEAST, 1))
    return odds
