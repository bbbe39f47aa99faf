"""Preprocessing that follows the pretrained weights if a recipe does not set it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_warn

from inceptionnext_lit.data.sources.fingerprint import Fingerprint, total
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.preprocessing import Preprocessing, size_text
from inceptionnext_lit.safe_load import load_plain, read_metadata
from inceptionnext_lit.training.callbacks.same_data import KEY as DATA
from inceptionnext_lit.training.callbacks.settings import KEY as RUN

_KEYS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def settle_input(model: Any, data: Any) -> str:
    """Take the preprocessing of the pretrained weights, except for the values that are given.

    Args:
        model: Parsed arguments of the task.
        data: Parsed arguments of the data module, changed in place.

    Returns:
        What was taken and its source, for a log line; empty if nothing was.

    Raises:
        UserError: If the weights' file cannot be read.
    """
    given = data.get("input")
    if not model.get("pretrained") or not isinstance(given, Namespace) or not all(key in given for key in _KEYS):
        return ""
    overlay = (model.get("kwargs") or {}).get("pretrained_cfg_overlay")
    found = pretrained_input(model.get("name"), model.pretrained, overlay)
    if found is None:
        return ""
    found = found.for_channels(data.in_chans)
    taken = []
    for key in _KEYS:
        if given.get(key) is None:
            given[key] = getattr(found, key)
            taken.append(key)
    averaged = f", averaged for {data.in_chans} channels" if found.averaged and {"mean", "std"} & set(taken) else ""
    return f"{', '.join(taken)} from {found.origin}{averaged}" if taken else ""


def warn_of_shared_images(pretrained: bool | str | None, teacher: str | None, data: Any) -> None:
    """Warn if weights or a teacher were trained on some of the validation images, by a run with another split.

    Args:
        pretrained: Source of the weights.
        teacher: The teacher, if there is one.
        data: The data module, set up for training.
    """
    if not getattr(data, "holds_back", False):
        return
    for source, text in ((pretrained, f"The weights in {pretrained} were"), (teacher, f"The teacher {teacher} was")):
        if isinstance(source, str) and _has_seen_held_back(source, data):
            rank_zero_warn(
                f"{text} trained on some of the validation images, so validation metrics will be too high. Use the "
                "same val_fraction, seed, num_folds and fold (data.split) as that run."
            )


def _has_seen_held_back(source: str, data: Any) -> bool:
    """Return whether a checkpoint's run, or that of a converted one, has split the same data differently."""
    path = Path(source).expanduser()
    is_place = False
    if path.suffix == ".ckpt":
        content = load_plain(path, mmap=True)
        splits, root = content.get(DATA, {}), content.get(RUN, {}).get("data.root")
        is_place = isinstance(root, str) and os.path.realpath(root) == os.path.realpath(data.settings["root"])
        seen = _totals(splits)
    else:
        seen = _converted(path) if path.suffix == ".safetensors" else {}
    if not {"all", "val"} <= seen.keys():
        return False
    here = _totals(data.fingerprint())
    return (is_place or seen["all"] == here["all"]) and seen["val"] != here["val"]


def _converted(path: Path) -> dict[str, Any]:
    """Return what ``convert`` has written about the images of a run; empty for files of other programs."""
    try:
        found = json.loads(read_metadata(path).get(DATA, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _totals(splits: Mapping[str, Fingerprint]) -> dict[str, list[int]]:
    return {"all": total(splits.values()), "val": total([splits["val"]])} if "val" in splits else {}


def describe_input(preprocessing: Preprocessing, taken: str) -> str:
    """Describe the preprocessing in one line, printed when a run starts."""
    values = ", ".join(f"{key} {preprocessing.get(key, 'center')}" for key in _KEYS)
    exif = ", EXIF orientation ignored" if preprocessing.get("exif") == "ignore" else ""
    return f"Input:      {size_text(preprocessing)} pixels, {values}{exif}{f' ({taken})' if taken else ''}"
