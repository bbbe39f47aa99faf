"""What a checkpoint says of its model and its data, as defaults of the command line."""

import pkgutil
from typing import Any

from inceptionnext_lit.cli.parser import DEFAULT_CLASSES
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.tasks.stored import check_stored

# What flows from the data to the model, under this name in both; a checkpoint holds it for the data.
LINKED = "data_spec"


def checkpoint_defaults(checkpoint: dict[str, Any], path: str, model: Any) -> dict[str, Any]:
    """Arguments of the model and of the data as a checkpoint holds them.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        path: Its file, for messages.
        model: The command line's own arguments for the model; a class that is named there may be imported.

    Returns:
        Defaults for the parser's keys ``model`` and ``data``.

    Raises:
        UserError: If the checkpoint does not say what it was made with, or names code that this package does not know.
    """
    arguments = dict(checkpoint.get("hyper_parameters", {}))
    if "_class_path" not in arguments:
        if model.class_path.rpartition(".")[2] != DEFAULT_CLASSES["model"].__name__:
            return {}  # a module of the user's own, whose arguments are those of the command line
        raise UserError(
            f"The checkpoint {path} does not say which module it is of. If it is one of your own, name its class as in "
            f"training: --model my_module.MyModule. Weights alone are taken by fit with --model.pretrained {path}."
        )
    task = check_stored(arguments, f"The checkpoint {path}", _names(model))
    init_args = {key: value for key, value in arguments.items() if not key.startswith("_") and key != LINKED}
    defaults: dict[str, Any] = {"model": {"class_path": arguments["_class_path"], "init_args": init_args}}
    if issubclass(task, BaseTask) and (data := task.data_defaults(arguments)):
        defaults["data"] = {"class_path": DEFAULT_CLASSES["data"].__name__, "init_args": data}
    return defaults


def _names(model: Any) -> set[str]:
    """Every text among the command line's arguments for the model, its class also by the module that defines it."""
    cls = pkgutil.resolve_name(model.class_path)  # the parser has imported it
    named = {f"{cls.__module__}.{cls.__qualname__}"}
    waiting = [model.as_dict()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            named.add(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return named
