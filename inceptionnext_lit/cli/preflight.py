"""What is looked at before a command starts, so that a mistake costs seconds and leaves nothing behind."""

import pkgutil
import re
from dataclasses import fields
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from inceptionnext_lit.cli.latest_run import is_finished
from inceptionnext_lit.cli.stored_arguments import LINKED
from inceptionnext_lit.data import ImageFolderDataModule
from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import start_method


def check_continuation(checkpoint: dict[str, Any], config: Any, *, is_training: bool) -> None:
    """Refuse a checkpoint of another model, and a training that has nothing left to do.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        config: The parsed arguments of the command.
        is_training: Whether the command trains on.

    Raises:
        UserError: In both cases.
    """
    stored = checkpoint.get("hyper_parameters", {}).get("name")
    wanted = (config.model.get("init_args") or {}).get("name")
    if stored is not None and wanted is not None and stored != wanted:
        raise UserError(f"The checkpoint holds the model {stored!r}, not {wanted!r}; give --model.name {stored}.")
    if is_training and (done := is_finished(checkpoint, config.trainer, config.checkpoint)):
        raise UserError(f"The checkpoint {done}.")


def check_images(config: Any) -> None:
    """Refuse a ``fit`` of which nothing says on what.

    Args:
        config: Its parsed arguments.

    Raises:
        UserError: If there are neither images nor a recipe or checkpoint that may name them.
    """
    is_folder = issubclass(pkgutil.resolve_name(config.data.class_path), ImageFolderDataModule)
    root = (config.data.get("init_args") or {}).get("root")
    if is_folder and not (config.config or config.ckpt_path or root):
        raise UserError(
            "fit needs images: --data.root MY_IMAGES fine-tunes on a folder of your own, and --config quickstart "
            "trains on the embedded ones."
        )


def check_end(trainer: Any) -> None:
    """Refuse a run without a planned end, which the schedule of the learning rate needs.

    Args:
        trainer: The trainer's parsed arguments.

    Raises:
        UserError: If there is neither a number of epochs nor of steps.
    """
    epochs = -1 if trainer.max_epochs is None and trainer.max_time is not None else trainer.max_epochs
    if epochs == -1 and trainer.max_steps == -1:
        raise UserError(
            "The learning rate falls until the planned end of a run, and this one has none; give --trainer.max_epochs "
            "or --trainer.max_steps. With trainer.max_time too, it may end earlier."
        )


def check_told(given: Any, data: Any) -> None:
    """Refuse what is said of the classes or the input where the data say otherwise, which the model goes by.

    Args:
        given: The parsed ``model.data_spec``, if there is any.
        data: The data module; of one without a ``data_spec`` nothing is known.

    Raises:
        UserError: If they differ.
    """
    told = getattr(data, LINKED, None)
    for field in fields(DataSpec) if given is not None and told is not None else ():
        value, right = given.get(field.name), getattr(told, field.name)
        value = value.as_dict() if isinstance(value, Namespace) else value
        if value not in (field.default, right):
            raise UserError(
                f"model.{LINKED}.{field.name} is {value}, but the data say {right}; leave it out, since the model goes "
                "by the data."
            )


def check_modes(callbacks: list[Callback], model: LightningModule) -> None:
    """Refuse a callback of Lightning's that takes the worst value of a metric for the best; its default is ``min``.

    Args:
        callbacks: Those that a recipe or the command line names.
        model: The task, whose ``directions`` say which value is the best.

    Raises:
        UserError: If there is one.
    """
    directions = getattr(model, "directions", {})
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping | ModelCheckpoint):
            continue
        right = directions.get(callback.monitor, callback.mode)
        if callback.mode != right:
            raise UserError(
                f"{type(callback).__name__} in trainer.callbacks watches {callback.monitor} with mode {callback.mode}, "
                f"which takes the worst value for the best; give it mode: {right}."
            )


def check_prediction(class_path: str) -> None:
    """Refuse to predict with a module that does not classify.

    Args:
        class_path: The module's class, which the parser has imported.

    Raises:
        UserError: If it is one.
    """
    cls = pkgutil.resolve_name(class_path)
    if not getattr(cls, "can_predict", False):
        raise UserError(
            f"predict needs a classifier, but {cls.__name__} is not one; use validate or test, or load its checkpoint "
            "in Python."
        )


def check_start_method(strategy: Any) -> None:
    """Refuse strategies that copy this process: a run's folder and signals belong to the process that began it.

    Args:
        strategy: ``trainer.strategy`` as it is given, parsed, or made.

    Raises:
        UserError: If it starts processes in another way than by the command line.
    """
    given = getattr(strategy, "init_args", None) or {}
    method = start_method(strategy) or given.get("start_method")
    named = re.match(r"ddp_(?:notebook|fork|spawn)", strategy) if isinstance(strategy, str) else None
    if named is None and method in (None, "popen"):
        return
    name = named[0] if named is not None else f"one that starts processes by {method}"
    raise UserError(
        f"trainer.strategy is {name}; give --trainer.strategy ddp, which starts a process for each device by the same "
        "command line. In a notebook, run that from a terminal or use --trainer.devices 1."
    )
