"""Load a trained task from a checkpoint, or a classifier with published weights."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

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
from inceptionnext_lit.safe_load import check_finite, load_plain
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.classification.calibration import read_calibration
from inceptionnext_lit.tasks.classification.distilled import without_projection
from inceptionnext_lit.tasks.published import describe_published
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.tasks.stored import check_stored, own_class
from inceptionnext_lit.training.checkpoint_io import read_checkpoint

Task = TypeVar("Task", ClassificationTask, SegmentationTask)

_IMAGENET = 1000  # classes
_KINDS: dict[type | None, str] = {ClassificationTask: "classifier", SegmentationTask: "segmentation model"}


def load_task(path: Path) -> tuple[ClassificationTask, dict[str, Any]]:
    """Load the task of a checkpoint; no code in the file is run.

    Args:
        path: A checkpoint of ``fit``.

    Returns:
        The task with its weights, and the content of the file, whose tensors stay on disk until they are used.

    Raises:
        UserError: If the file is not a checkpoint of ``fit``, or contains NaN or infinite weights.
    """
    task, content = _load(path, ClassificationTask, "classifier")
    task.calibration = read_calibration(content, task.num_classes, str(path))
    return task, content


def load_segmentation_task(path: Path) -> tuple[SegmentationTask, dict[str, Any]]:
    """Load the segmentation task of a checkpoint; no code in the file is run.

    Args:
        path: A checkpoint of ``fit``.

    Returns:
        The task with its weights, and the content of the file, whose tensors stay on disk until they are used.

    Raises:
        UserError: If the file is not a checkpoint of a segmentation model, or contains NaN or infinite weights.
    """
    return _load(path, SegmentationTask, "segmentation model")


def is_segmentation(path: Path) -> bool:
    """Return whether a file is a checkpoint of a segmentation model.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read.
    """
    arguments = load_plain(path, mmap=True).get("hyper_parameters")
    return isinstance(arguments, dict) and own_class(arguments.get("_class_path")) is SegmentationTask


def _load(path: Path, cls: type[Task], kind: str) -> tuple[Task, dict[str, Any]]:
    content = read_checkpoint(path, mmap=True)
    arguments = content.get("hyper_parameters")
    if not isinstance(arguments, dict) or (found := own_class(arguments.get("_class_path"))) is not cls:
        if isinstance(arguments, dict) and found in _KINDS:
            raise UserError(f"{path} is a checkpoint of a {_KINDS[found]}, and this needs one of a {kind}.")
        if isinstance(arguments, dict) and "data_spec" in arguments:
            raise UserError(
                f"{path} is a checkpoint of the class {arguments.get('_class_path')}, which is not one of this "
                "package's, so it was not imported. In Python, load it with that class's load_from_checkpoint; "
                "inceptionnext_lit.Classifier then takes the task."
            )
        raise UserError(
            f"{path} is not a checkpoint of a {kind} trained by fit; use one of those. If it is a file of weights, "
            f"give it with its model: --model.name NAME --model.pretrained {path}."
        )
    known = inspect.signature(cls).parameters
    check_stored(arguments, f"The checkpoint {path}")
    plain = {key: value for key, value in arguments.items() if key in known or key == "_class_path"}
    try:
        task: Task = instantiate_module(cls, plain)
        check_finite(content["state_dict"], path)
        state = without_projection(content["state_dict"])
        task.load_state_dict({name.replace("._orig_mod.", "."): tensor for name, tensor in state.items()})
    except (ArgumentError, RuntimeError) as error:  # arguments of another version, or tensors of another model
        raise UserError(f"The weights and arguments in {path} do not match each other, or this version.") from error
    return task, content


def load_published(
    name: str, pretrained: str | bool, class_names: Sequence[str] | None = None, *, names_needed: bool = False
) -> ClassificationTask:
    """Load a model with published weights, or with the weights in a file, as a classifier.

    Images are prepared as :func:`describe_published` says. The class names are the file's, or the WordNet IDs of
    ImageNet's folders, or the indices of the classes.

    Args:
        name: Any timm model name, including this family's.
        pretrained: True to download the published weights, or a file with weights.
        class_names: The names of the classes, if they are given.
        names_needed: Whether classes must have names, to label images.

    Raises:
        UserError: If there are no such weights, or they do not contain a classifier or the model's input, or names that
            are needed are unknown.
    """
    if isinstance(pretrained, str) and is_checkpoint(pretrained):
        if class_names is not None:
            raise UserError(f"{pretrained} is a checkpoint, which has the names of its classes; leave them out.")
        return load_task(Path(pretrained).expanduser())[0]
    published = describe_published(name, pretrained, class_names)
    if names_needed:
        published.check_names()
    task = ClassificationTask(name, pretrained, published.kwargs, published.spec)
    published.check(task.num_classes, task.loaded)
    task.calibration = published.calibration
    return task


def load_backbone(name: str, pretrained: str | bool) -> ClassificationTask:
    """Load a model like :func:`load_published`, also from weights without a classifier or with one of other classes.

    Args:
        name: Any timm model name, including this family's.
        pretrained: True to download the published weights, or a file with weights.

    Returns:
        The model; its classifier is random if the weights have none that fits.

    Raises:
        UserError: If there are no such weights, or nothing says how images are prepared.
    """
    if isinstance(pretrained, str) and is_checkpoint(pretrained):
        return load_task(Path(pretrained).expanduser())[0]
    published = describe_published(name, pretrained, classifier_needed=False)
    return ClassificationTask(name, pretrained, published.kwargs, published.spec)


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a file is a checkpoint of a task of this package or a subclass, and not of another module.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be read.
    """
    arguments = load_plain(Path(path).expanduser(), mmap=True).get("hyper_parameters")
    return isinstance(arguments, dict) and (
        own_class(arguments.get("_class_path")) is not None or "data_spec" in arguments
    )


def load_random(name: str, seed: int = 0, image_size: int | None = None) -> ClassificationTask:
    """Build a model with random weights as a classifier, for the input and the classes of timm's entry.

    Args:
        name: Any timm model name, including this family's.
        seed: Seed of the weights; torch's generator is left as it was.
        image_size: Side of the model's input in pixels; None for timm's.

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
        "image_size": image_size or _side(config),
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


def _side(config: Any) -> int | list[int]:
    _, height, width = config.input_size
    return int(height) if height == width else [height, width]
