"""Check the arguments in an untrusted checkpoint, without importing anything that they name."""

import pkgutil
from collections.abc import Collection, Mapping
from numbers import Number
from typing import Any

from lightning.pytorch import LightningModule

from inceptionnext_lit import tasks
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.self_contained import nested_options

_IMPORTED_ANYWAY = ("torch.optim.", "lightning.pytorch.cli.")
_PLAIN_TEXTS = (
    "name",
    "loss.name",
    "distill.teacher",
    "data_spec.class_names",
)  # their types keep a parser from interpreting them


def own_class(path: str | None) -> type | None:
    """Return this package's task for an import path, as stored in a checkpoint, if any.

    Args:
        path: Import path of the class, also of an earlier version of this package.
    """
    package, _, name = str(path).rpartition(".")
    is_own = package.split(".")[:2] == tasks.__name__.split(".") and name in tasks.__all__
    found: type | None = getattr(tasks, name) if is_own else None
    return found if found is not None and issubclass(found, LightningModule) else None


def check_stored(arguments: Mapping[str, Any], source: str, named: Collection[str] = ()) -> type:
    """Refuse a checkpoint's arguments if a parser would import something for them.

    Args:
        arguments: The checkpoint's ``hyper_parameters``.
        source: The checkpoint, for messages.
        named: Classes named on the command line, which the checkpoint may name too.

    Returns:
        The task's class.

    Raises:
        UserError: If the task's class is neither this package's nor in ``named``, or an argument names another class.
    """
    path = str(arguments.get("_class_path"))
    if (task := own_class(path)) is None and path in named:
        task = pkgutil.resolve_name(path)  # the command line has imported it
    if task is None:
        raise UserError(
            f"{source} is of the class {path}, which is not one of this package's, so it was not imported. If you "
            f"trust it, name the class yourself: --model {path}."
        )
    _check_groups(task, arguments, "", source)
    for key, value in arguments.items():
        if not key.startswith("_"):
            _check(value, key, source, named)
    for key in ("optimizer", "schedule"):
        name = str((arguments.get(key) or {}).get("name") or "")
        if "." in name and not name.startswith(_IMPORTED_ANYWAY) and name not in named:
            raise _refusal(source, f"{key}.name", name)
    return task


def _check_groups(cls: type, arguments: Mapping[str, Any], prefix: str, source: str) -> None:
    """Refuse a group of options that is not a mapping, since a parser would take it for a class name."""
    for name, option in nested_options(cls).items():
        value = arguments.get(name)
        if not isinstance(value, Mapping | None):
            raise _refusal(source, f"{prefix}{name}", value)
        if value is not None:
            _check_groups(option, value, f"{prefix}{name}.", source)


def _check(value: Any, place: str, source: str, named: Collection[str]) -> None:
    if place in _PLAIN_TEXTS:
        return
    if isinstance(value, Mapping):
        if "class_path" in value and value["class_path"] not in named:
            raise _refusal(source, place, value["class_path"])
        for key, one in value.items():
            _check(one, f"{place}.{key}", source, named)
    elif isinstance(value, list | tuple):
        for one in value:
            _check(one, place, source, named)
    # if any value is allowed, a parser interprets "{class_path: …}" in a string
    elif not isinstance(value, Number | str | None) or (isinstance(value, str) and ":" in value):
        raise _refusal(source, place, value)


def _refusal(source: str, place: str, value: Any) -> UserError:
    return UserError(
        f"{source} has {place} = {value!r}, which could name code to run; it was refused and nothing was imported."
    )
