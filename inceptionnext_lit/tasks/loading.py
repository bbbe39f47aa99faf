"""Load a trained classifier from a file."""

import inspect
import json
from pathlib import Path
from typing import Any

import timm
import torch
from jsonargparse import ArgumentError
from lightning.pytorch.cli import instantiate_module
from timm.data import ImageNetInfo

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.safe_load import check_finite, load_plain, read_metadata
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.classification.calibration import KEY as CALIBRATION
from inceptionnext_lit.tasks.classification.calibration import StoredCalibration, read_calibration
from inceptionnext_lit.tasks.stored import check_stored, own_class
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

_IMAGENET = 1000  # classes


def load_task(path: Path) -> tuple[ClassificationTask, dict[str, Any]]:
    """Load the task of a checkpoint; no code in the file is run.

    Args:
        path: A checkpoint of ``fit``.

    Returns:
        The task with its weights, and the content of the file, whose tensors stay on disk until they are used.

    Raises:
        UserError: If the file is not a checkpoint of ``fit``, or contains NaN or infinite weights.
    """
    content = read_checkpoint(path, mmap=True)
    arguments = content.get("hyper_parameters")
    if not isinstance(arguments, dict) or own_class(arguments.get("_class_path")) is not ClassificationTask:
        raise UserError(f"{path} is not a checkpoint of a classifier trained by fit; use one of those.")
    known = inspect.signature(ClassificationTask).parameters
    check_stored(arguments, f"The checkpoint {path}")
    plain = {key: value for key, value in arguments.items() if key in known or key == "_class_path"}
    try:
        task: ClassificationTask = instantiate_module(ClassificationTask, plain)
        check_finite(content["state_dict"], path)
        task.load_state_dict(content["state_dict"])
        task.calibration = read_calibration(content, task.num_classes, str(path))
    except (ArgumentError, RuntimeError) as error:  # arguments of another version, or tensors of another model
        raise UserError(f"The weights and arguments in {path} do not match each other, or this version.") from error
    return task, content


def load_published(name: str, pretrained: str | bool) -> ClassificationTask:
    """Load a model with published weights, or with the weights in a file, as a classifier.

    Images are prepared as the weights expect, and EXIF orientations are ignored, as timm does. The class names are the
    file's, or the WordNet IDs of ImageNet-1K's folders.

    Args:
        name: Any timm model name, including this family's.
        pretrained: Whether to download the published weights, or a file with weights.

    Raises:
        UserError: If there are no such weights, or they do not contain a classifier or the model's input.
    """
    if isinstance(pretrained, str):
        path = Path(pretrained).expanduser()
        stored = read_metadata(path)
        if "hyper_parameters" in load_plain(path, mmap=True):
            return load_task(path)[0]
    else:
        stored = {}
    check_model_name(name)
    found = pretrained_input(name, pretrained)
    if found is None:
        raise UserError(f"The weights of {name!r} do not say how their images were prepared; use a checkpoint of fit.")
    names = json.loads(stored.get("class_names", "null"))
    config = timm.get_pretrained_cfg(name)
    count = int(stored.get("num_classes", getattr(config, "num_classes", None) or len(names or ())))
    names = names or (ImageNetInfo("imagenet-1k").label_names() if count == _IMAGENET else None)
    own_size = json.loads(stored.get("preprocessing", "{}")) or {}
    size = own_size.get("image_size") or _side(config)
    preprocessing: Preprocessing = {
        "image_size": size,
        "crop_pct": found.crop_pct,
        "interpolation": found.interpolation,
        "mean": found.mean,
        "std": found.std,
        "crop_mode": found.crop_mode,
        "exif": "ignore",
    }
    spec = DataSpec(names, count, preprocessing=preprocessing)
    task = ClassificationTask(name, pretrained, json.loads(stored.get("kwargs", "null")), spec)
    if task.loaded is not None and task.loaded.reinitialized:
        raise UserError(
            f"{pretrained} does not have a classifier of {count} classes for {name!r}; give a checkpoint of fit, or a "
            "file written by convert."
        )
    task.calibration = _calibration(stored, task.num_classes, str(pretrained))
    return task


def load_random(name: str, seed: int = 0) -> ClassificationTask:
    """Build a model with random weights as a classifier, for the input and the classes of timm's entry.

    Args:
        name: Any timm model name, including this family's.
        seed: Seed of the weights; torch's generator is left as it was.

    Raises:
        UserError: If the model is unknown.
    """
    check_model_name(name)
    config = timm.get_pretrained_cfg(name)
    found = pretrained_input(name, True)  # timm's entry; nothing is downloaded
    if config is None or found is None:
        raise UserError(f"timm does not say what images {name!r} takes; use a checkpoint of fit.")
    count = getattr(config, "num_classes", None) or _IMAGENET
    preprocessing: Preprocessing = {
        "image_size": _side(config),
        "crop_pct": found.crop_pct,
        "interpolation": found.interpolation,
        "mean": found.mean,
        "std": found.std,
        "crop_mode": found.crop_mode,
    }
    names = ImageNetInfo("imagenet-1k").label_names() if count == _IMAGENET else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ClassificationTask(name, data_spec=DataSpec(names, count, preprocessing=preprocessing))


def _calibration(metadata: dict[str, str], num_classes: int, source: str) -> StoredCalibration:
    """Return the calibration in the metadata of a file written by ``convert``."""
    text = metadata.get(CALIBRATION, "null")
    try:
        content = json.loads(text)
    except ValueError:  # refused below
        content = text
    return read_calibration({CALIBRATION: content}, num_classes, source)


def _side(config: Any) -> int | list[int]:
    _, height, width = config.input_size
    return int(height) if height == width else [height, width]
