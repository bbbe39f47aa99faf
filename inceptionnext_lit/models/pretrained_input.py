"""Preprocessing of the images that a model's weights were trained on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import timm

from inceptionnext_lit.preprocessing import CropMode, Interpolation
from inceptionnext_lit.safe_load import load_plain, read_metadata


@dataclass(frozen=True)
class PretrainedInput:
    """The part of the preprocessing that belongs to pretrained weights.

    Attributes:
        mean: Mean per channel, for pixels in [0, 1].
        std: Standard deviation per channel.
        interpolation: Resampling filter of the resize.
        crop_pct: Fraction of the resized image that the evaluation crop keeps.
        crop_mode: How to crop images that are not square.
        origin: Where these values come from.
        averaged: Whether mean and std are averages over another number of channels.
        image_size: Side of the test images in pixels, or height and width; None unless it was asked for.
        assumed: Whether they are timm's for this model, since the file does not say how its images were prepared.
    """

    mean: list[float]
    std: list[float]
    interpolation: Interpolation
    crop_pct: float
    crop_mode: CropMode
    origin: str
    averaged: bool = False
    image_size: int | list[int] | None = None
    assumed: bool = False

    def for_channels(self, channels: int) -> "PretrainedInput":
        """Return the same for another number of channels, with the average of mean and std."""
        if len(self.mean) == channels:
            return self
        mean, std = ([round(sum(values) / len(values), 4)] * channels for values in (self.mean, self.std))
        return replace(self, mean=mean, std=std, averaged=True)


def pretrained_input(
    name: str, pretrained: bool | str, overlay: Mapping[str, Any] | None = None, *, for_testing: bool = False
) -> PretrainedInput | None:
    """Find the preprocessing of the images that a model's weights were trained on.

    Checkpoints of training runs and files written by ``convert`` contain it; other files may have a ``config.json``
    next to them, as on the Hugging Face hub. Otherwise timm's entry of the model is used.

    Args:
        name: The model.
        pretrained: Whether its published weights are used, or the file of its weights.
        overlay: Changes to timm's entry, as for ``timm.create_model``.
        for_testing: Whether to use the size and crop at which the weights are tested, as timm's ``validate.py`` does:
            ``test_input_size`` and ``test_crop_pct`` of the entry, if it has them.

    Returns:
        The preprocessing; None without weights, or if it is unknown.

    Raises:
        UserError: If the file cannot be read.
    """
    if not pretrained:
        return None
    if isinstance(pretrained, str):
        path = Path(pretrained).expanduser()
        if (stored := _stored(path)) is not None:
            return _from(stored, str(path), for_testing=for_testing)
        if (listed := _hub_entry(path, name)) is not None:
            return _from(listed, str(path.with_name("config.json")), for_testing=for_testing)
    entry = timm.get_pretrained_cfg(name)
    if entry is None:
        return None
    found = _from(entry.to_dict() | dict(overlay or {}), f"timm's entry of {name}", for_testing=for_testing)
    return found if found is None else replace(found, assumed=isinstance(pretrained, str))


def _from(found: Mapping[str, Any], origin: str, *, for_testing: bool) -> PretrainedInput | None:
    """Read a dictionary under timm's or our keys; None if a value is missing or invalid."""
    mean, std, crop_pct = found.get("mean"), found.get("std"), found.get("crop_pct")
    crop_pct = (found.get("test_crop_pct") if for_testing else None) or crop_pct
    interpolation, crop_mode = found.get("interpolation"), found.get("crop_mode") or "center"
    if not isinstance(mean, list | tuple) or not isinstance(std, list | tuple) or not len(mean) == len(std) > 0:
        return None
    if not isinstance(crop_pct, int | float) or not 0 < crop_pct <= 1:
        return None
    if interpolation not in get_args(Interpolation) or crop_mode not in get_args(CropMode):
        return None
    return PretrainedInput(
        mean=[float(value) for value in mean],
        std=[float(value) for value in std],
        interpolation=cast(Interpolation, interpolation),
        crop_pct=float(crop_pct),
        crop_mode=cast(CropMode, crop_mode),
        origin=origin,
        image_size=_tested_size(found) if for_testing else None,
    )


def _tested_size(found: Mapping[str, Any]) -> int | list[int] | None:
    """Return the size of the test images, from our key or timm's ``(channels, height, width)``."""
    if isinstance(own := found.get("image_size"), int | list):
        return own
    size = found.get("test_input_size") or found.get("input_size")
    if not isinstance(size, list | tuple) or len(size) != 3:
        return None
    _, height, width = map(int, size)
    return height if height == width else [height, width]


def _stored(path: Path) -> Mapping[str, Any] | None:
    """Return the preprocessing stored in one of our checkpoints, or in a file written by ``convert``."""
    arguments = load_plain(path, mmap=True).get("hyper_parameters")
    stored = (
        _entry(arguments.get("data_spec"), "preprocessing")
        if isinstance(arguments, Mapping)
        else _parsed(read_metadata(path).get("preprocessing"))
    )
    return stored if isinstance(stored, Mapping) else None


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _hub_entry(path: Path, name: str) -> Mapping[str, Any] | None:
    """Return the model's entry in a ``config.json`` next to the file, as on the Hugging Face hub."""
    config = path.with_name("config.json")
    content = _parsed(config.read_text(errors="replace")) if config.is_file() else None
    if not isinstance(content, Mapping) or content.get("architecture") != name.partition(".")[0]:
        return None
    entry = content.get("pretrained_cfg")
    return entry if isinstance(entry, Mapping) else None


def _parsed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
