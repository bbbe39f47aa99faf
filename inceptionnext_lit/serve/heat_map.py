"""The heat map of an image, as a picture."""

import importlib.util
import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from inceptionnext_lit.errors import UserError

if TYPE_CHECKING:
    from inceptionnext_lit.reports.explain.overlay import Heat, Picture

_OPACITY = 0.6
_SIDE = 224  # pixels of a picture at least, since small inputs would be hard to see
_PACKAGES = ("torch", "captum")  # of maps by gradients


def missing_for_heat_maps(classifier: object) -> str | None:
    """Return why there are no heat maps, as a sentence; None if there are.

    Args:
        classifier: What ``load_classifier`` returns.
    """
    if hasattr(classifier, "palette"):
        return "Heat maps are of classifiers; this model gives each pixel a class."
    if not _is_exported(classifier) and any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        return "Heat maps of checkpoints need captum; install it with pip install 'inceptionnext-lit[explain]'."
    return None


def heat_map(classifier: Any, image: Image.Image, target: str | None) -> tuple[bytes, bool]:
    """Draw the heat map of a decoded image over what the model sees of it.

    Args:
        classifier: The classifier: Grad-CAM for a checkpoint, occlusion for an exported file.
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
    from inceptionnext_lit.reports.explain.overlay import overlay

    names, preprocessing = classifier.class_names, classifier.preprocessing
    if target is not None and target not in names:
        raise UserError(f"The model has no class {target!r}; /metadata lists its classes.")
    mean = preprocessing["mean"]
    try:
        picture = upright(image, len(mean), preprocessing.get("nodata"), mean)
    except ValueError as error:
        raise UserError(f"The image cannot be used: {error}.") from error
    explain = _by_occlusion if _is_exported(classifier) else _by_gradients
    seen, heat = explain(classifier, picture, None if target is None else names.index(target))
    drawn = overlay(seen, heat, _OPACITY)
    result = Image.fromarray((255 * drawn.clip(0, 1)).round().astype(np.uint8))
    if (scale := -(-_SIDE // min(result.size))) > 1:
        result = result.resize((result.width * scale, result.height * scale), Image.Resampling.NEAREST)
    file = io.BytesIO()
    result.save(file, "PNG")
    return file.getvalue(), not heat.any()


def _is_exported(classifier: object) -> bool:
    return hasattr(classifier, "pixels_at_scale")


def _by_gradients(classifier: Any, picture: Image.Image, target: int | None) -> "tuple[Picture, Heat]":
    from inceptionnext_lit.reports.explain.attribution import explain
    from inceptionnext_lit.reports.explain.figure import as_picture

    found = explain(classifier.task, picture, target=target)
    return as_picture(found.pixels), found.heat


def _by_occlusion(classifier: Any, picture: Image.Image, target: int | None) -> "tuple[Picture, Heat]":
    import numpy as np

    from inceptionnext_lit.serve.occlusion import occlusion

    pixels, heat = occlusion(classifier, picture, target)
    colors: Picture = pixels.astype(np.float32) / np.float32(255)
    if colors.shape[2] != 3:
        colors = colors.mean(axis=2, keepdims=True).repeat(3, axis=2)
    return colors, heat
