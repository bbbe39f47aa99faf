"""Private names of Lightning, argparse, jsonargparse and torchmetrics; all uses are in this module.

``PRIVATE_NAMES`` gives the reason for each. If a release moves one, ``tests/test_lightning_compat.py`` fails with its
name; these libraries have upper bounds in ``pyproject.toml`` for that reason.
"""

import argparse
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, cast

from jsonargparse import _loaders_dumpers
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torchmetrics import Metric

PRIVATE_NAMES: Final = {
    "argparse.ArgumentParser._actions": "argparse has no public list of a parser's options",
    "argparse.ArgumentParser._option_string_actions": "looks up an option by its name",
    "argparse._SubParsersAction": "the type of the option that has the subcommands' parsers",
    "jsonargparse.ActionTypeHint._typehint": "the order in which a union's types are tried",
    "jsonargparse._loaders_dumpers.get_yaml_default_loader": "recipes are read by a subclass of the parser's loader",
    "jsonargparse._loaders_dumpers.yaml_load": "plain values are read as the parser reads them",
    "LightningCLI._get": "returns the parsed arguments of the running command",
    "LightningCLI._parse_ckpt_path": "lets a checkpoint override the command line; here the command line wins",
    "LightningCLI._prepare_subcommand_parser": "adds options to a single command",
    "LightningCLI._subcommand_parsers": "sets defaults of a single command from a checkpoint",
    "ExperimentWriter._check_log_dir_exists": "deletes the rows of a resumed run",
    "ExperimentWriter._rewrite_with_new_header": "empties the file first, so a kill would lose all rows",
    "CSVLogger._experiment": "sets a custom writer",
    "TensorBoardLogger._experiment": "tells whether the writer exists, without creating it",
    "TensorBoardLogger._kwargs": "purge_step is known only after construction",
    "ModelCheckpoint._every_n_train_steps": "the constructor takes either steps or epochs, the hooks support both",
    "ModelCheckpoint._last_global_step_saved": "skips a save after a validation if its step was already saved",
    "ModelCheckpoint._monitor_candidates": "gives the file name of an immediate save",
    "ModelCheckpoint._save_topk_checkpoint": "saves immediately when a signal asks for it",
    "EarlyStopping._evaluate_stopping_criteria": "ignores min_epochs and min_steps",
    "_Loop.restarting": "its setter also marks the inner loops when an epoch starts from its first batch",
    "_FitLoop._combined_loader": "gives access to the samplers that start in the middle of an epoch",
    "_FitLoop._data_fetcher": "has already fetched the first batches when a run is resumed",
    "_FitLoop._data_source": "tells whether a run has the trainer's data module, or loaders",
    "_TrainingEpochLoop._batches_that_stepped": "the step that loggers record",
    "_TrainingEpochLoop._num_ready_batches_reached": "tells whether an epoch is over while its validation runs",
    "_TrainingEpochLoop._results": "holds the sums behind the epoch's metrics",
    "_TrainingEpochLoop._should_accumulate": "tells whether the last batch ended an optimizer step",
    "_TrainingEpochLoop._should_check_val_fx": "tells whether a validation follows",
    "Trainer._logger_connector": "tells what a step logs, and logs the batch that a signal interrupts",
    "DDPStrategy._layer_sync": "Lightning's own synchronized BatchNorm needs a GPU",
    "DDPStrategy._start_method": "tells whether ranks are forked or spawned from this process",
    "DDPStrategy._timeout": "how long ranks wait for each other, in any distributed strategy",
    "Metric._defaults": "lists the names of a metric's states",
    "Metric._update_count": "marks a metric with restored states as updated",
}

_yaml: Any = _loaders_dumpers  # untyped
yaml_load = _yaml.yaml_load
YamlLoader: Any = _yaml.get_yaml_default_loader()


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return a parser's options, including those of its groups."""
    return parser._actions


def option(parser: argparse.ArgumentParser, key: str) -> argparse.Action:
    """Return the option that ``--key`` sets."""
    return parser._option_string_actions[f"--{key}"]


def command_parsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return a parser's subcommand parsers by name; empty if it has no subcommands."""
    choices = next((action.choices for action in options(parser) if isinstance(action, argparse._SubParsersAction)), {})
    return cast(Mapping[str, argparse.ArgumentParser], choices)


def type_of(action: argparse.Action) -> Any:
    """Return the type that jsonargparse checks an option's value against, or None."""
    return getattr(action, "_typehint", None)


def set_type(action: argparse.Action, hint: Any) -> None:
    """Set the type that jsonargparse checks an option's value against."""
    cast(Any, action)._typehint = hint


class OpenLightningCLI(LightningCLI):
    """LightningCLI with public names for the private methods that a custom command line needs."""

    def prepare_command(self, parser: LightningArgumentParser, command: str) -> None:
        """Add options to the parser of one command."""

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self.prepare_command(parser, subcommand)
        return parser

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning's version lets the checkpoint override the command line."""

    def set_command_defaults(self, command: str, defaults: dict[str, Any]) -> None:
        """Set the defaults of one command's options."""
        self._subcommand_parsers[command].set_defaults(defaults)

    def parsed(self, key: str) -> Any:
        """Return a value of the running command as parsed."""
        return self._get(self.config, key)

    def made(self, key: str) -> Any:
        """Return a value of the running command, instantiated if it is a class."""
        return self._get(self.config_init, key)


class RowWriter(ExperimentWriter):
    """Lightning's writer of ``metrics.csv``, without deleting existing rows."""

    def rewrite(self) -> None:
        """Rewrite the file with the new columns; implemented by subclasses."""
        raise NotImplementedError

    def _check_log_dir_exists(self) -> None:
        pass

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.rewrite()


class OwnWriterLogger(CSVLogger):
    """Lightning's CSV logger with a custom writer."""

    def make_writer(self) -> RowWriter:
        """Create the writer when the first row is logged; implemented by subclasses."""
        raise NotImplementedError

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return the writer."""
        if self._experiment is None:
            self._experiment = self.make_writer()
        return self._experiment


def has_writer(logger: TensorBoardLogger) -> bool:
    """Return whether a logger has a writer, without creating one."""
    return logger._experiment is not None


def purge_from(logger: TensorBoardLogger, step: int) -> None:
    """Make TensorBoard hide what was logged from a step on; call it before the logger writes anything."""
    logger._kwargs["purge_step"] = step


class SaveableCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint callback with immediate saves, and saves both after steps and after epochs.

    Args:
        every_n_steps: Optimizer steps between two saves; None saves after each epoch only.
        **kwargs: Arguments of ``ModelCheckpoint``.
    """

    def __init__(self, every_n_steps: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every_n_train_steps = every_n_steps or 0

    def forget_last_save(self) -> None:
        """Allow the next save even if this step was already saved."""
        self._last_global_step_saved = -1

    def save_now(self, trainer: Trainer) -> None:
        """Save immediately, whether or not a save is due."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class DeferrableStopping(EarlyStopping):
    """Lightning's early stopping that stops only while :attr:`may_stop` is true."""

    may_stop = True

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        should_stop, reason = super()._evaluate_stopping_criteria(current)
        return (should_stop, reason) if self.may_stop else (False, None)


def is_logged(trainer: Trainer) -> bool:
    """Return whether the current step's values go to the loggers."""
    return bool(trainer._logger_connector.should_update_logs)


def logged_values(trainer: Trainer) -> dict[str, Any]:
    """Return the values that go to the loggers next."""
    return trainer._logger_connector.metrics["log"]


def log_batch(trainer: Trainer) -> None:
    """Log a batch that will not be completed."""
    trainer._logger_connector.on_batch_end()
    trainer.fit_loop.epoch_loop.batch_progress.increment_completed()
    trainer._logger_connector.update_train_step_metrics()


def logger_step(trainer: Trainer) -> int:
    """Return the step that loggers record for the next row."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_logger_step(trainer: Trainer, step: int) -> None:
    """Set the step that loggers record for the next row."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def is_accumulating(trainer: Trainer) -> bool:
    """Return whether gradients are still being accumulated after the last batch."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def will_validate(trainer: Trainer) -> bool:
    """Return whether a validation follows the last batch."""
    return trainer.fit_loop.epoch_loop._should_check_val_fx(cast(Any, trainer.fit_loop._data_fetcher))


def epoch_is_over(trainer: Trainer) -> bool:
    """Return whether the epoch has no batches left; also true during its validation."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def epoch_results(trainer: Trainer) -> list[Any]:
    """Return what the current epoch has logged so far, as Lightning's result objects."""
    return list(trainer.fit_loop.epoch_loop._results.result_metrics)


def begin_whole_epoch(trainer: Trainer) -> None:
    """Tell Lightning's loops that a resumed run starts an epoch from its first batch."""
    cast(Any, _Loop.restarting).fset(trainer.fit_loop, False)


def training_loaders(trainer: Trainer) -> list[Any]:
    """Return the training data loaders."""
    return list(cast(Any, trainer.fit_loop._combined_loader).flattened)


def fetch_again(trainer: Trainer) -> None:
    """Drop prefetched training batches and restart from the samplers' current position."""
    iter(cast(Any, trainer.fit_loop._data_fetcher))


def datamodule_of(trainer: Any) -> Any:
    """Return the data module of the current run, or None; Lightning keeps that of an earlier one beside loaders."""
    data = getattr(trainer, "datamodule", None)
    source = getattr(getattr(trainer, "fit_loop", None), "_data_source", None)
    return data if source is None or source.instance is data else None


def end_batches(trainer: Trainer) -> None:
    """Let the current epoch have no further training batch, whatever its loaders still have."""
    fetcher = cast(Any, trainer.fit_loop._data_fetcher)
    fetcher.done, fetcher.batches = True, []


def leave_batchnorm_alone(strategy: Strategy) -> None:
    """Disable Lightning's own synchronized BatchNorm in a strategy."""
    cast(Any, strategy)._layer_sync = None


def start_method(strategy: Any) -> str | None:
    """Return how a strategy starts processes (``popen``, ``fork`` or ``spawn``), or None if it starts none."""
    return getattr(strategy, "_start_method", None)


def timeout_of(strategy: Any) -> timedelta | None:
    """Return how long a strategy's ranks wait for each other; None for a single rank or without a timeout."""
    return getattr(strategy, "_timeout", None)


def set_timeout_of(strategy: Any, timeout: timedelta) -> None:
    """Set the timeout of a strategy that has one."""
    if hasattr(strategy, "_timeout"):
        strategy._timeout = timeout


def state_names(metric: Metric) -> list[str]:
    """Return the names of a metric's states."""
    return list(metric._defaults)


def mark_updated(metric: Metric) -> None:
    """Mark restored states as updated, so that torchmetrics does not warn."""
    metric._update_count += 1
