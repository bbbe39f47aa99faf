"""The input of pretrained weights, where a recipe leaves it open how images are prepared."""

from typing import Any

from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.preprocessing import Preprocessing

_KEYS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def settle_input(model: Any, data: Any) -> str:
    """Prepare images as for the weights that training starts from, but for what is given.

    Args:
        model: Parsed arguments of the task.
        data: Parsed arguments of the data module, changed in place.

    Returns:
        What was taken from where, as the end of a sentence; empty if nothing was.

    Raises:
        UserError: If the weights' file cannot be read.
    """
    if not model.get("pretrained") or not all(key in data for key in _KEYS):
        return ""
    overlay = (model.get("kwargs") or {}).get("pretrained_cfg_overlay")
    found = pretrained_input(model.get("name"), model.pretrained, overlay)
    if found is None:
        return ""
    found = found.for_channels(data.in_chans)
    taken = []
    for key in _KEYS:
        if data.get(key) is None:
            data[key] = getattr(found, key)
            taken.append(key)
    averaged = f", averaged for {data.in_chans} channels" if found.averaged and {"mean", "std"} & set(taken) else ""
    return f"{', '.join(taken)} from {found.origin}{averaged}" if taken else ""


def describe_input(preprocessing: Preprocessing, taken: str) -> str:
    """How images are prepared, as a line of a run's start."""
    values = ", ".join(f"{key} {preprocessing.get(key, 'center')}" for key in _KEYS)
    return f"Input:      {preprocessing['image_size']} pixels, {values}{f' ({taken})' if taken else ''}"
