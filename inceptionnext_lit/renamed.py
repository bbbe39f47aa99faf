"""Renamed options: messages for the old names, and reading checkpoints that contain them."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "data.val_fraction": "data.split.val_fraction",
    "data.split_seed": "data.split.seed",
    "data.num_folds": "data.split.num_folds",
    "data.fold": "data.split.fold",
    "data.per_class": "data.split.per_class",
    "data.mean": "data.input.mean",
    "data.std": "data.input.std",
    "data.crop_pct": "data.input.crop_pct",
    "data.interpolation": "data.input.interpolation",
    "data.crop_mode": "data.input.crop_mode",
    "data.nodata": "data.input.nodata",
    "data.exif": "data.input.exif",
    "data.class_weights": "data.balance.class_weights",
    "data.sampler": "data.balance.sampler",
    "data.on_bad_image": "data.bad_images.action",
    "data.max_bad_images": "data.bad_images.max_skipped",
    "data.max_pixels": "data.bad_images.max_pixels",
    "data.path_column": "data.manifest.path_column",
    "data.label_column": "data.manifest.label_column",
    "data.cache_dir": "the environment variable INCEPTIONNEXT_LIT_CACHE",
    "model.num_classes": "model.data_spec.num_classes",
    "model.class_names": "model.data_spec.class_names",
    "model.multi_label": "model.data_spec.multi_label",
    "model.preprocessing": "model.data_spec.preprocessing",
    "model.loss": "model.loss.name",
    "model.label_smoothing": "model.loss.label_smoothing",
    "model.mix": "model.loss.mix",
    "model.dist_bn": "model.execution.dist_bn",
    "model.test_time_flip": "model.execution.test_time_flip",
}
"""Keys of the command line and of recipes; keys inside a group are renamed with it."""

# marks of the classification task's arguments and of a run's settings before the renaming
_OLD_ARGUMENTS = {"num_classes", "class_names", "preprocessing", "loss", "label_smoothing", "mix"}
_OLD_SETTINGS = {"data": {"data.split_seed"}, "model": {"model.label_smoothing", "model.mix.mixup"}}


def new_key(key: str) -> str:
    """Return the current name of a key, such as ``model.loss.mix.mixup`` for ``model.mix.mixup``."""
    for old, new in RENAMED.items():
        is_inside = key.startswith(f"{old}.") and not new.startswith(f"{old}.")
        if key == old or is_inside:
            return new + key.removeprefix(old)
    return key


def explain_renamed(key: str) -> str | None:
    """Return a sentence with the current name of a key; None if it has not been renamed."""
    return None if (new := new_key(key)) == key else f"{key} is now {new}."


def update_checkpoint(content: dict[str, Any]) -> None:
    """Rename the arguments and settings in a checkpoint to their current names.

    Args:
        content: The content of a file, changed in place if it is an earlier checkpoint of this package.
    """
    arguments, settings = content.get("hyper_parameters"), content.get("run")
    if isinstance(arguments, Mapping) and arguments.keys() >= _OLD_ARGUMENTS and "data_spec" not in arguments:
        content["hyper_parameters"] = _grouped(arguments)
    if isinstance(settings, Mapping):
        groups = tuple(f"{group}." for group, names in _OLD_SETTINGS.items() if settings.keys() >= names)
        renamed = {new_key(key) if str(key).startswith(groups) else key: value for key, value in settings.items()}
        # the data's settings contain the same values
        content["run"] = {key: value for key, value in renamed.items() if not str(key).startswith("model.data_spec.")}


def _grouped(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Group a task's arguments."""
    grouped: dict[str, Any] = {}
    for name, value in arguments.items():
        group, _, inner = new_key(f"model.{name}").removeprefix("model.").partition(".")
        value = {inner: value} if inner else value
        known = grouped.get(group)
        grouped[group] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return grouped
