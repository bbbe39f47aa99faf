"""Command-line defaults from a checkpoint's model and data."""

import pkgutil
from typing import Any

from inceptionnext_lit.cli.parsing.parser import DEFAULT_CLASSES
from inceptionnext_lit.data_spec import ClassNames
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.tasks.stored import check_stored

# The argument that the data module passes to the model; both use this name.
LINKED = "data_spec"


def checkpoint_defaults(checkpoint: dict[str, Any], path: str, model: Any) -> dict[str, Any]:
    """Return the arguments of the model and the data that are stored in a checkpoint.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        path: Its file, for messages.
        model: The command line's arguments for the model; classes named there may be imported.

    Returns:
        Defaults for the parser's keys ``model`` and ``data``.

    Raises:
        UserError: If the checkpoint does not name its module's class, or names unknown code.
    """
    arguments = dict(checkpoint.get("hyper_parameters", {}))
    if "_class_path" not in arguments:
        if model.class_path.rpartition(".")[2] != DEFAULT_CLASSES["model"].__name__:
            return {}  # a custom module takes its arguments from the command line
        raise UserError(
            f"The checkpoint {path} does not name its module's class. For your own module, name it as in training: "
            f"--model my_module.MyModule. To start fit from its weights, use --model.pretrained {path}."
        )
    task = check_stored(arguments, f"The checkpoint {path}", _names(model))
    init_args = {key: value for key, value in arguments.items() if not key.startswith("_") and key != LINKED}
    defaults: dict[str, Any] = {"model": {"class_path": arguments["_class_path"], "init_args": init_args}}
    if issubclass(task, BaseTask) and (data := task.data_defaults(arguments)):
        if (names := data.get("class_names")) is not None:
            data["class_names"] = ClassNames(names)
        defaults["data"] = {"class_path": task.data_class, "init_args": data}
    return defaults


def _names(model: Any) -> set[str]:
    """Return every string in the command line's model arguments, and its class by its defining module."""
    cls = pkgutil.resolve_name(model.class_path)  # the parser has imported it
    named = {f"{cls.__module__}.{cls.__qualname__}"}
    pending = [model.as_dict()]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            named.add(value)
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    return named
