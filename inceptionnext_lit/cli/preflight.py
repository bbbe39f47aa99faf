"""Checks before a command starts, so that a mistake fails within seconds and leaves no files."""

import inspect
import pkgutil
import re
from dataclasses import fields
from typing import Any, get_args

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from inceptionnext_lit.cli.parsing.stored_arguments import LINKED
from inceptionnext_lit.cli.runs.latest_run import is_finished
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import start_method
from inceptionnext_lit.tasks.self_contained import nested_options


def check_continuation(checkpoint: dict[str, Any], config: Any, *, is_training: bool) -> None:
    """Reject a checkpoint of another model, and a run that is already finished.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        config: The parsed arguments of the command.
        is_training: Whether the command continues training.

    Raises:
        UserError: If either applies.
    """
    stored = checkpoint.get("hyper_parameters", {}).get("name")
    wanted = (config.model.get("init_args") or {}).get("name")
    if stored is not None and wanted is not None and stored != wanted:
        raise UserError(f"The checkpoint is of the model {stored!r}, not {wanted!r}; give --model.name {stored}.")
    if is_training and (done := is_finished(checkpoint, config.trainer, config.checkpoint)):
        raise UserError(f"The checkpoint {done}.")


def check_groups(config: Any) -> None:
    """Reject a value, or null, for a whole group of options.

    jsonargparse takes any value for these, as in a recipe whose group has only comments in it.

    Args:
        config: A command's parsed arguments.

    Raises:
        UserError: If there is one.
    """
    for group in ("trainer", "data", "model", "checkpoint"):
        value = config[group]
        if not isinstance(value, Namespace):
            given = "null" if value is None else repr(value)
            raise UserError(f"{group} is {given}, but it is a group of options; give keys of it, or leave it out.")


def check_nulls(config: Any) -> None:
    """Reject options of the data and the model that are null and need a value.

    jsonargparse takes null for any option, as in a recipe whose key has nothing after it.

    Args:
        config: A command's parsed arguments.

    Raises:
        UserError: If there is one.
    """
    for part in ("data", "model"):
        _check_nulls(part, pkgutil.resolve_name(config[part].class_path), config[part].get("init_args"))


def _check_nulls(key: str, cls: type, given: Any) -> None:
    if not isinstance(given, Namespace):
        return
    groups = nested_options(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        value = given.get(name, parameter.default)
        if name in groups:
            _check_nulls(f"{key}.{name}", groups[name], value)
        if value is not None or not _needs_value(parameter):
            continue
        hint = f"leave it out for the default, {parameter.default}."
        if name in groups:
            keys = list(inspect.signature(groups[name]).parameters)
            shown = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
            hint = f"set one of its keys ({shown}), or leave it out."
        elif parameter.default is parameter.empty:
            hint = "give one."
        raise UserError(f"{key}.{name} is null, but it needs a value; {hint}")


def _needs_value(parameter: inspect.Parameter) -> bool:
    hint = parameter.annotation
    takes_null = hint in (None, Any, inspect.Parameter.empty) or type(None) in get_args(hint)
    return parameter.default is not None and not takes_null and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def check_images(config: Any) -> None:
    """Reject a ``fit`` without images.

    Args:
        config: Its parsed arguments.

    Raises:
        UserError: If there are no images, and no recipe or checkpoint that may name them.
    """
    is_folder = issubclass(pkgutil.resolve_name(config.data.class_path), ImageFolderDataModule)
    root = (config.data.get("init_args") or {}).get("root")
    if is_folder and not (config.config or config.ckpt_path or root):
        raise UserError(
            "fit needs images: --data.root MY_IMAGES fine-tunes on your own folder, and --config quickstart "
            "trains on the embedded ones."
        )


def check_end(trainer: Any) -> None:
    """Reject a run without a planned end, which the learning rate schedule needs.

    Args:
        trainer: The trainer's parsed arguments.

    Raises:
        UserError: If neither the number of epochs nor of steps is set.
    """
    epochs = -1 if trainer.max_epochs is None and trainer.max_time is not None else trainer.max_epochs
    if epochs == -1 and trainer.max_steps == -1:
        raise UserError(
            "The learning rate schedule needs the run's planned end; give --trainer.max_epochs or --trainer.max_steps. "
            "With trainer.max_time too, the run may end earlier."
        )


def check_told(given: Any, data: Any) -> None:
    """Reject a given ``model.data_spec`` that contradicts the data.

    Args:
        given: The parsed ``model.data_spec``, if there is one.
        data: The data module; one without a ``data_spec`` is not checked.

    Raises:
        UserError: If they differ.
    """
    told = getattr(data, LINKED, None)
    for field in fields(DataSpec) if given is not None and told is not None else ():
        value, right = given.get(field.name), getattr(told, field.name)
        value = value.as_dict() if isinstance(value, Namespace) else value
        if value not in (field.default, right):
            raise UserError(
                f"model.{LINKED}.{field.name} is {value}, but the data have {right}; leave it out, since the model "
                "takes it from the data."
            )


def check_modes(callbacks: list[Callback], model: LightningModule) -> None:
    """Reject a Lightning callback whose mode, ``min`` by default, is the wrong one for its metric.

    Args:
        callbacks: The callbacks from a recipe or the command line.
        model: The task, whose ``directions`` give each metric's mode.

    Raises:
        UserError: If a mode is wrong.
    """
    directions = getattr(model, "directions", {})
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping | ModelCheckpoint):
            continue
        right = directions.get(callback.monitor, callback.mode)
        if callback.mode != right:
            raise UserError(
                f"{type(callback).__name__} in trainer.callbacks watches {callback.monitor} with mode {callback.mode}, "
                f"which selects the worst value; give it mode: {right}."
            )


def check_prediction(class_path: str) -> None:
    """Reject a module for ``predict`` that is not a classifier.

    Args:
        class_path: The module's class, which the parser has imported.

    Raises:
        UserError: If it is not a classifier.
    """
    cls = pkgutil.resolve_name(class_path)
    if not getattr(cls, "can_predict", False):
        raise UserError(
            f"predict needs a classifier, but {cls.__name__} is not one; use validate or test, or load its checkpoint "
            "in Python."
        )


def check_start_method(strategy: Any) -> None:
    """Reject strategies that fork or spawn: a run's folder and signals belong to the process that started it.

    Args:
        strategy: ``trainer.strategy`` as given, parsed or instantiated.

    Raises:
        UserError: If it starts ranks other than by the command line.
    """
    given = getattr(strategy, "init_args", None) or {}
    method = start_method(strategy) or given.get("start_method")
    named = re.match(r"ddp_(?:notebook|fork|spawn)", strategy) if isinstance(strategy, str) else None
    if named is None and method in (None, "popen"):
        return
    name = named[0] if named is not None else f"one that starts ranks by {method}"
    raise UserError(
        f"trainer.strategy is {name}; give --trainer.strategy ddp, which starts a rank for each device with the same "
        "command line. In a notebook, run that from a terminal or use --trainer.devices 1."
    )
