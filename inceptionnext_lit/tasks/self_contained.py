"""Checkpoints that contain everything needed to rebuild a task."""

import inspect
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from types import NoneType
from typing import Any, get_args

import numpy as np
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_load import check_finite
from inceptionnext_lit.tasks.backbone import WEIGHT_SOURCES

_PLAIN = (str, int, float, bool, type(None))


def nested_options(cls: type) -> dict[str, type]:
    """Return the constructor's arguments annotated with a dataclass, also in a union, by name."""
    return {
        name: option
        for name, parameter in inspect.signature(cls).parameters.items()
        for option in (parameter.annotation, *get_args(parameter.annotation))
        if isinstance(option, type) and is_dataclass(option)
    }


def check_options(cls: type, arguments: Mapping[str, Any]) -> None:
    """Check that options which are dataclasses, or None, are nothing else.

    Args:
        cls: The class with the constructor.
        arguments: The constructor's arguments by name.

    Raises:
        TypeError: If one is not, such as the name of a loss.
    """
    for name, parameter in inspect.signature(cls).parameters.items():
        types = get_args(parameter.annotation) or (parameter.annotation,)
        options = tuple(one for one in types if isinstance(one, type) and is_dataclass(one))
        if not options or len(types) > len(options) + (NoneType in types):  # other values are allowed
            continue
        if (value := arguments.get(name)) is not None and not isinstance(value, options):
            raise TypeError(f"{name} is {value!r}; give {options[0].__name__}(…), or leave it out.")


class SelfContained(LightningModule):
    """A module whose checkpoints contain its constructor's arguments as plain data."""

    def plain_hparams(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values, without those that would load weights again.

        Dataclasses become dictionaries; one that was left out is taken from the attribute of its name.

        Raises:
            UserError: If an argument cannot be stored in a checkpoint.
        """
        plain = {name: self.__dict__.get(name, value) for name, value in self.hparams.items()}
        plain = {name: value if is_dataclass(value) else self.hparams[name] for name, value in plain.items()}
        if "pretrained" in plain:
            plain["pretrained"] = False
        if "kwargs" in plain:
            own = plain["kwargs"] or {}
            plain["kwargs"] = {key: value for key, value in own.items() if key not in WEIGHT_SOURCES}
        return {name: self._plain(name, value) for name, value in plain.items()}

    def _plain(self, name: str, value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(value, np.generic):
            return value.item()
        value = vars(value) if isinstance(value, Namespace) else value
        if isinstance(value, Mapping):
            return {key: self._plain(f"{name}.{key}", one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            plain = [self._plain(name, one) for one in value]
            return tuple(plain) if isinstance(value, tuple) else plain
        if not isinstance(value, _PLAIN):
            raise UserError(
                f"{type(self).__name__} takes {name}, a {type(value).__name__}, which cannot be stored in a "
                "checkpoint; use numbers, strings, lists, dictionaries or dataclasses of them."
            )
        return value

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint self-contained.

        Args:
            checkpoint: Lightning's dictionary, changed in place.
        """
        plain = self.plain_hparams()
        # the format of LightningCLI, so that load_from_checkpoint rebuilds nested arguments
        plain["_class_path"] = f"{type(self).__module__}.{type(self).__qualname__}"
        plain["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
        checkpoint["hyper_parameters"] = plain
        # Lightning stores "kwargs" here for keyword arguments, which its loader would mistake for our kwargs
        checkpoint.pop("hparams_name", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint with NaN or infinite weights, or one that :meth:`check_checkpoint` refuses.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: In both cases.
        """
        # the weights of a sharded checkpoint are in other files
        check_finite(checkpoint.get("state_dict", {}), "The checkpoint")
        self.check_checkpoint(checkpoint)

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse a checkpoint whose weights do not belong to this task; a task may override it.

        Args:
            checkpoint: Lightning's dictionary.

        Raises:
            UserError: If it is refused.
        """


def stored_classes(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """Return the class names in a checkpoint, which may be those that ``load_from_checkpoint`` was called with.

    Args:
        checkpoint: Lightning's dictionary.
    """
    spec = checkpoint.get("hyper_parameters", {}).get("data_spec") or {}
    names: list[str] | None = spec.class_names if isinstance(spec, DataSpec) else spec.get("class_names")
    return names


def match_average(checkpoint: dict[str, Any], *, wanted: bool) -> None:
    """Start the average of the weights in a checkpoint without one, or drop it, with a message.

    Args:
        checkpoint: Lightning's dictionary, changed in place.
        wanted: Whether the task keeps an average.
    """
    if "state_dict" not in checkpoint:  # the weights of a sharded checkpoint are in other files
        return
    state, average = checkpoint["state_dict"], "model_ema.module."
    stored = [key for key in state if key.startswith(average)]
    if stored and not wanted:
        rank_zero_info("model.ema_decay is off: the checkpoint's averaged weights are not used.")
        checkpoint["state_dict"] = {key: value for key, value in state.items() if key not in stored}
    elif wanted and not stored:
        rank_zero_info("model.ema_decay is on: the average starts from the checkpoint's weights, since it has none.")
        weights = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
        checkpoint["state_dict"] = state | {average + key: value for key, value in weights.items()}
