"""The heat map of an image, as a picture."""

import importlib.util
import io
from typing import Any

from PIL import Image

from inceptionnext_lit.errors import UserError

_OPACITY = 0.6
_SIDE = 224  # pixels of a picture at least, since small inputs would be hard to see
_PACKAGES = ("torch", "captum", "matplotlib")


def missing_for_heat_maps(classifier: object) -> str | None:
    """Return why there are no heat maps, as a sentence; None if there are.

    Args:
        classifier: What ``load_classifier`` returns; heat maps need gradients, which exported files do not have.
    """
    if hasattr(classifier, "palette"):
        return "Heat maps are of classifiers; this model gives each pixel a class."
    if getattr(classifier, "task", None) is None:
        return "Heat maps need a checkpoint; this model is an exported file."
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        return "Heat maps need captum and matplotlib; install them with pip install 'inceptionnext-lit[explain]'."
    return None


def heat_map(classifier: Any, image: Image.Image, target: str | None) -> tuple[bytes, bool]:
    """Draw the heat map of a decoded image over what the model sees of it.

    Args:
        classifier: The classifier of a checkpoint.
        image: The image.
        target: Name of the class; None for the predicted one.

    Returns:
        A PNG file, and whether the map is empty, since nothing speaks for the class.

    Raises:
        UserError: If there are no heat maps of this model or no such class, or the image cannot be used.
    """
    if (reason := missing_for_heat_maps(classifier)) is not None:
        raise UserError(reason)
    import numpy as np

    from inceptionnext_lit.data.decode.image import upright
    from inceptionnext_lit.reports.explain.attribution import explain
    from inceptionnext_lit.reports.explain.figure import as_picture, overlay

    names, preprocessing = classifier.class_names, classifier.preprocessing
    if target is not None and target not in names:
        raise UserError(f"The model has no class {target!r}; /metadata lists its classes.")
    mean = preprocessing["mean"]
    try:
        picture = upright(image, len(mean), preprocessing.get("nodata"), mean)
    except ValueError as error:
        raise UserError(f"The image cannot be used: {error}.") from error
    found = explain(classifier.task, picture, target=None if target is None else names.index(target))
    drawn = overlay(as_picture(found.pixels), found.heat, _OPACITY)
    result = Image.fromarray((255 * drawn.clip(0, 1)).round().astype(np.uint8))
    if (scale := -(-_SIDE // min(result.size))) > 1:
        result = result.resize((result.width * scale, result.height * scale), Image.Resampling.NEAREST)
    file = io.BytesIO()
    result.save(file, "PNG")
    return file.getvalue(), not found.heat.any()
