"""``predict``, ``validate`` and ``test`` with published weights or a file of weights instead of a checkpoint."""

import os
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from inceptionnext_lit.cli.parsing.parser import DEFAULT_CLASSES
from inceptionnext_lit.cli.pretrained import describe_input
from inceptionnext_lit.data_spec import ClassNames
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.tasks.loading import is_checkpoint
from inceptionnext_lit.tasks.published import Published, describe_published

_KEYS = ("--model.pretrained", "--model.init_args.pretrained")


def asked_weights(words: Sequence[str], config: Any) -> bool | str | None:
    """Return the weights that a command line names instead of a checkpoint; None if it names none.

    Only the command line counts, since recipes for fine-tuning name the weights to start from.

    Args:
        words: The command line.
        config: The command's parsed arguments.

    Raises:
        UserError: If a checkpoint is named too, the model is not a classifier, or the file does not exist.
    """
    pretrained = (config.model.get("init_args") or {}).get("pretrained")
    if not any(str(word).partition("=")[0] in _KEYS for word in words) or pretrained is False:
        return None
    if config.get("ckpt_path") is not None:
        raise UserError(
            f"--ckpt_path {config.ckpt_path} and --model.pretrained {_as_given(pretrained)} both name weights; leave "
            "one of them out."
        )
    if not issubclass(cls := pkgutil.resolve_name(config.model.class_path), ClassificationTask):
        raise UserError(f"--model.pretrained is for ClassificationTask here, not {cls.__name__}; give --ckpt_path.")
    if isinstance(pretrained, str) and not os.path.exists(os.path.expanduser(pretrained)):
        raise UserError(
            f"There is no file {pretrained!r}; give --model.pretrained true for published weights, or a file of "
            "weights."
        )
    return cast(bool | str, pretrained)


def names_checkpoint(pretrained: bool | str) -> bool:
    """Return whether the weights are a checkpoint of a training run, which has its own model, classes and input."""
    return isinstance(pretrained, str) and is_checkpoint(pretrained)


def describe(pretrained: bool | str, config: Any) -> Published:
    """Describe the weights that a command line names; see :func:`describe_published`.

    Args:
        pretrained: True, or a file that is not a checkpoint.
        config: The command's parsed arguments.
    """
    data = config.data.get("init_args") or {}
    return describe_published(config.model.init_args.name, pretrained, data.get("class_names"))


def published_defaults(published: Published) -> dict[str, Any]:
    """Return the arguments of the model and the data that follow from published weights.

    Args:
        published: The weights.

    Returns:
        Defaults for the parser's keys ``model`` and ``data``.
    """
    model: dict[str, Any] = {"name": published.name}
    if published.kwargs:
        model["kwargs"] = published.kwargs
    data = ClassificationTask.data_defaults({"data_spec": asdict(published.spec)})
    if data["class_names"] is not None:
        data["class_names"] = ClassNames(data["class_names"])
    return {
        key: {"class_path": DEFAULT_CLASSES[key].__name__, "init_args": arguments}
        for key, arguments in (("model", model), ("data", data))
    }


def apply_published(published: Published, task: ClassificationTask) -> None:
    """Check that a task has the classifier of published weights, and give it their calibration.

    Args:
        published: The weights.
        task: The task that was built with them.
    """
    published.check(task.num_classes, task.loaded)
    task.calibration = published.calibration


def describe_weights(published: Published, preprocessing: Preprocessing) -> list[str]:
    """Return the lines that are printed about published weights and their input.

    Args:
        published: The weights.
        preprocessing: The preprocessing in use.
    """
    own = cast(Mapping[str, Any], published.spec.preprocessing)
    kept = [key for key, value in preprocessing.items() if key != "exif" and own.get(key) == value]
    taken = f"{', '.join(kept)} from {published.origin}" if kept else ""
    return [f"Model:      {published}", describe_input(preprocessing, taken)]


def _as_given(pretrained: Any) -> str:
    return "true" if pretrained is True else str(pretrained)
