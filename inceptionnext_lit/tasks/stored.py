"""The arguments in a checkpoint, which may be a stranger's: nothing that they name is imported."""

import pkgutil
from collections.abc import Collection, Mapping
from numbers import Number
from typing import Any

from inceptionnext_lit import tasks
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.self_contained import nested_options

_IMPORTED_ANYWAY = ("torch.optim.", "lightning.pytorch.cli.")
_PLAIN_TEXTS = (
    "name",
    "loss.name",
    "data_spec.class_names",
)  # whose types keep a parser from reading anything else in them


def own_class(path: str | None) -> type | None:
    """This package's own task of a path, as a checkpoint names it; None if there is none.

    Args:
        path: Where the class was imported from; also where an earlier version of this package had it.
    """
    package, _, name = str(path).rpartition(".")
    is_own = package.split(".")[:2] == tasks.__name__.split(".") and name in tasks.__all__
    return getattr(tasks, name) if is_own else None


def check_stored(arguments: Mapping[str, Any], source: str, named: Collection[str] = ()) -> type:
    """Refuse a checkpoint's arguments if a parser would import something for them.

    Args:
        arguments: The checkpoint's ``hyper_parameters``.
        source: What messages call the checkpoint.
        named: Classes that the command line itself names; they may be named by the checkpoint too.

    Returns:
        The task's class.

    Raises:
        UserError: If the task's class is neither this package's nor named, or a class is named among the arguments.
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
    """Refuse what is no mapping in the place of a group of options, which a parser would take for a class's name."""
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
    # a parser reads "{class_path: …}" in a text where any value is allowed
    elif not isinstance(value, Number | str | None) or (isinstance(value, str) and ":" in value):
        raise _refusal(source, place, value)


def _refusal(source: str, place: str, value: Any) -> UserError:
    return UserError(
        f"{source} holds {value!r} as {place}, which could name code to run; it was refused and nothing was imported."
    )
