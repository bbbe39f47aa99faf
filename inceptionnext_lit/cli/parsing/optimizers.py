"""Convert LightningCLI's ``--optimizer`` and ``--lr_scheduler`` into options of this toolkit's tasks."""

import inspect
import pkgutil
import re
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LRSchedulerTypeTuple
from torch import optim
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import BaseTask
from inceptionnext_lit.training.optim import OptimizerOptions
from inceptionnext_lit.training.schedule import Schedule
from inceptionnext_lit.wording import did_you_mean

KEYS = ("optimizer", "lr_scheduler")
_EXAMPLES = {"optimizer": "torch.optim.AdamW", "lr_scheduler": "torch.optim.lr_scheduler.ExponentialLR"}
_BASES: dict[str, tuple[type, Any]] = {"optimizer": (Optimizer, optim), "lr_scheduler": (LRScheduler, lr_scheduler)}


def add_optimizers(parser: LightningArgumentParser) -> None:
    """Add both keys to a command's parser.

    Args:
        parser: Changed in place.
    """
    parser.add_optimizer_args((Optimizer,))
    parser.add_lr_scheduler_args(LRSchedulerTypeTuple)


def is_left_to_lightning(config: Any) -> bool:
    """Return whether LightningCLI configures the optimizer, as it does for modules that are not this toolkit's tasks.

    Args:
        config: The command's parsed arguments.

    Raises:
        UserError: If such a module would get a scheduler without an optimizer, which LightningCLI ignores.
    """
    cls = pkgutil.resolve_name(config.model.class_path)  # the parser has imported it
    if issubclass(cls, BaseTask) and cls.configure_optimizers is BaseTask.configure_optimizers:
        return False
    if config.lr_scheduler and not config.optimizer:
        raise UserError(f"--lr_scheduler needs --optimizer too if the model is {config.model.class_path}.")
    return bool(config.optimizer)


def take_optimizers(config: Any) -> list[str]:
    """Move both to the task's options, which handle parameter groups, resumption and checkpoints.

    Args:
        config: The command's parsed arguments, changed in place.

    Returns:
        A line for each replaced optimizer or scheduler.
    """
    model, taken = config.model.init_args, []
    if config.optimizer:
        path, changed, given = _class_and_arguments(config.optimizer)
        before = Namespace(**asdict(OptimizerOptions())) if model.optimizer is None else model.optimizer  # type: ignore[no-untyped-call]
        lr, decay = given.get("lr", model.lr), given.get("weight_decay", 0.0)
        taken.append(
            f"Optimizer:  {path}, lr {_plain(lr)}, weight_decay {_plain(decay)}, instead of {before.name}, "
            f"lr {_plain(model.lr)}, weight_decay {_plain(model.weight_decay)}"
        )
        kwargs = {key: value for key, value in changed.items() if key not in ("lr", "weight_decay")}
        model.optimizer = Namespace(**before.as_dict() | {"name": path, "kwargs": kwargs or None})  # type: ignore[no-untyped-call]
        model.lr, model.weight_decay = lr, decay
    if config.lr_scheduler:
        path, changed, _ = _class_and_arguments(config.lr_scheduler)
        interval: Any = "epoch" if model.schedule is None else model.schedule.interval
        model.schedule = Namespace(**asdict(Schedule(name=path, interval=interval, kwargs=changed or None)))  # type: ignore[no-untyped-call]
    for key in KEYS:
        config[key] = None
    return taken


def describe_schedule(model: LightningModule) -> list[str]:
    """Return the line that names the scheduler used instead of warm-up and cosine, if there is one.

    Args:
        model: The task.
    """
    if not isinstance(model, BaseTask) or model.schedule.name is None:
        return []
    schedule = model.schedule
    arguments = ", ".join(f"{key} {_plain(value)}" for key, value in (schedule.kwargs or {}).items())
    name = f"{schedule.name} with {arguments}" if arguments else schedule.name
    return [f"Schedule:   {name}, stepped after each {schedule.interval}, instead of warm-up and cosine"]


def explain_class(message: str) -> str | None:
    """Explain what is wrong with the class given to one of the two keys, or with its arguments.

    Args:
        message: jsonargparse's message.

    Returns:
        A sentence with the nearest valid names; None if the message is about something else.
    """
    found = re.match(rf'Parser key "({"|".join(KEYS)})":', message)
    if found is None:
        return None
    key = found[1]
    base, module = _BASES[key]
    if found := re.search(r"class_path '([\w.]+)':\s+Option '(\w+)' is not accepted", message):
        cls = pkgutil.resolve_name(found[1])
        if cls is base:
            return f"{key}.{found[2]} is an argument of a class; name the class before it: --{key} {_EXAMPLES[key]}."
        question = did_you_mean(found[2], sorted(_defaults(cls)), most=2, cutoff=0.0)
        return f"{found[1]} has no argument {found[2]!r}; {question}"
    if found := re.search(r"type: <class 'str'>\s+Given value: (\S+)$", message):
        classes = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, base)]
        known = {cls.__name__.lower(): cls.__name__ for cls in classes if cls is not base}
        near = get_close_matches(found[1].rpartition(".")[2].lower(), sorted(known), n=2, cutoff=0.0)
        names = " or ".join(f"{module.__name__}.{known[name]}" for name in near)
        return f"{key} is {found[1]!r}, which is not a known {base.__name__} class; did you mean {names}?"
    return None


def _class_and_arguments(given: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a class's path, its arguments that differ from the defaults, as plain values, and all its arguments."""
    cls = pkgutil.resolve_name(given.class_path)
    defaults = _defaults(cls)
    arguments = {key: _listed(value) for key, value in dict(given.get("init_args") or {}).items()}
    as_default = {key for key in arguments if key in defaults and arguments[key] == _listed(defaults[key])}
    return given.class_path, {key: arguments[key] for key in arguments if key not in as_default}, arguments


def _defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of a class's arguments, including those that it passes on to its bases."""
    return {
        name: parameter.default
        for base in reversed(cls.__mro__)
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in ("self", "params", "optimizer")
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
