"""Private names of Lightning, argparse, jsonargparse and torchmetrics, which are used here and nowhere else.

``PRIVATE_NAMES`` gives the reason for each. A release that moves one makes ``tests/test_lightning_compat.py`` fail with
its name; the upper bounds of these libraries in ``pyproject.toml`` exist because of them.
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
    "argparse.ArgumentParser._actions": "argparse lists a parser's options nowhere else",
    "argparse.ArgumentParser._option_string_actions": "the same, by the option's name",
    "argparse._SubParsersAction": "the only mark of the option that holds the commands' parsers",
    "jsonargparse.ActionTypeHint._typehint": "the order in which a union's types are tried",
    "jsonargparse._loaders_dumpers.get_yaml_default_loader": "recipes are read by a subclass of the parser's loader",
    "jsonargparse._loaders_dumpers.yaml_load": "plain values are read as the parser reads them",
    "LightningCLI._get": "the parsed arguments of the running command",
    "LightningCLI._parse_ckpt_path": "lets a checkpoint win over the command line, which has to win here",
    "LightningCLI._prepare_subcommand_parser": "options that a single command has",
    "LightningCLI._subcommand_parsers": "defaults of a single command, which a checkpoint gives",
    "ExperimentWriter._check_log_dir_exists": "deletes the rows of the run that is continued",
    "ExperimentWriter._rewrite_with_new_header": "empties the file first: a kill then loses all rows",
    "CSVLogger._experiment": "a writer of one's own",
    "TensorBoardLogger._experiment": "whether the writer is there, without making it",
    "TensorBoardLogger._kwargs": "purge_step is known only once the rows to keep are",
    "ModelCheckpoint._every_n_train_steps": "the constructor takes either steps or epochs, the hooks take both",
    "ModelCheckpoint._last_global_step_saved": "skips a save after a validation whose step has been saved before it",
    "ModelCheckpoint._monitor_candidates": "what a save at once is named by",
    "ModelCheckpoint._save_topk_checkpoint": "a save at once, when a signal asks for it",
    "EarlyStopping._evaluate_stopping_criteria": "decides before min_epochs and min_steps are over",
    "_Loop.restarting": "its setter marks the inner loops too, where an epoch begins from its first batch",
    "_FitLoop._combined_loader": "the samplers that begin in the middle of an epoch",
    "_FitLoop._data_fetcher": "has taken the first batches already when a run is continued",
    "_TrainingEpochLoop._batches_that_stepped": "the step under which loggers get a row",
    "_TrainingEpochLoop._num_ready_batches_reached": "whether an epoch is over while its validation runs",
    "_TrainingEpochLoop._results": "sums behind the epoch's metrics",
    "_TrainingEpochLoop._should_accumulate": "whether the last batch ended an optimizer step",
    "_TrainingEpochLoop._should_check_val_fx": "whether a validation follows",
    "Trainer._logger_connector": "whether a step is logged, and what; and the row of a batch that a signal interrupts",
    "DDPStrategy._layer_sync": "Lightning's own synchronized BatchNorm needs a GPU",
    "DDPStrategy._start_method": "whether processes are copies of this one",
    "DDPStrategy._timeout": "how long ranks wait for one another, in any strategy that communicates",
    "Metric._defaults": "names of a metric's states",
    "Metric._update_count": "a metric whose states were restored counts as updated",
}

_yaml: Any = _loaders_dumpers  # which has no types
yaml_load = _yaml.yaml_load
YamlLoader: Any = _yaml.get_yaml_default_loader()


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Options of a parser, those of its groups among them."""
    return parser._actions


def option(parser: argparse.ArgumentParser, key: str) -> argparse.Action:
    """The option of a parser that ``--key`` sets."""
    return parser._option_string_actions[f"--{key}"]


def command_parsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Parsers of a parser's commands by name; empty without commands."""
    choices = next((action.choices for action in options(parser) if isinstance(action, argparse._SubParsersAction)), {})
    return cast(Mapping[str, argparse.ArgumentParser], choices)


def type_of(action: argparse.Action) -> Any:
    """The type that jsonargparse checks an option's value by; None if there is none."""
    return getattr(action, "_typehint", None)


def set_type(action: argparse.Action, hint: Any) -> None:
    """Let jsonargparse check an option's value by another type."""
    cast(Any, action)._typehint = hint


class OpenLightningCLI(LightningCLI):
    """LightningCLI with public names for what a command line of one's own has to reach."""

    def prepare_command(self, parser: LightningArgumentParser, command: str) -> None:
        """Add options to the parser of one command."""

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        self.prepare_command(parser, subcommand)
        return parser

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning lets the checkpoint win over the command line here."""

    def set_command_defaults(self, command: str, defaults: dict[str, Any]) -> None:
        """Set defaults of one command's options."""
        self._subcommand_parsers[command].set_defaults(defaults)

    def parsed(self, key: str) -> Any:
        """A value of the running command as it was parsed."""
        return self._get(self.config, key)

    def made(self, key: str) -> Any:
        """A value of the running command, instantiated if it is a class."""
        return self._get(self.config_init, key)


class RowWriter(ExperimentWriter):
    """Lightning's writer of ``metrics.csv``, which keeps the rows that are there."""

    def rewrite(self) -> None:
        """Write the file again with the columns that have come; subclasses define how."""
        raise NotImplementedError

    def _check_log_dir_exists(self) -> None:
        pass

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.rewrite()


class OwnWriterLogger(CSVLogger):
    """Lightning's CSV logger with a writer of one's own."""

    def make_writer(self) -> RowWriter:
        """Make the writer, when the first row is logged; subclasses define which."""
        raise NotImplementedError

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer."""
        if self._experiment is None:
            self._experiment = self.make_writer()
        return self._experiment


def has_writer(logger: TensorBoardLogger) -> bool:
    """Whether a logger has its writer; asking for ``experiment`` would make it."""
    return logger._experiment is not None


def purge_from(logger: TensorBoardLogger, step: int) -> None:
    """Have TensorBoard hide what was logged from a step on; before the logger writes anything."""
    logger._kwargs["purge_step"] = step


class SaveableCheckpoint(ModelCheckpoint):
    """Lightning's checkpoint callback that can save at once, and after steps and epochs alike.

    Args:
        every_n_steps: Optimizer steps between two saves; None saves after each epoch only.
        **kwargs: As for ModelCheckpoint.
    """

    def __init__(self, every_n_steps: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every_n_train_steps = every_n_steps or 0

    def forget_last_save(self) -> None:
        """Let the next save happen even if this step has been saved."""
        self._last_global_step_saved = -1

    def save_now(self, trainer: Trainer) -> None:
        """Save at once, whether or not a save is due."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class DeferrableStopping(EarlyStopping):
    """Lightning's early stopping, which stops only while :attr:`may_stop` is true."""

    may_stop = True

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        should_stop, reason = super()._evaluate_stopping_criteria(current)
        return (should_stop, reason) if self.may_stop else (False, None)


def is_logged(trainer: Trainer) -> bool:
    """Whether the running step's values go to the loggers."""
    return bool(trainer._logger_connector.should_update_logs)


def logged_values(trainer: Trainer) -> dict[str, Any]:
    """The values that go to the loggers next."""
    return trainer._logger_connector.metrics["log"]


def log_batch(trainer: Trainer) -> None:
    """Log a batch that will not come to its end."""
    trainer._logger_connector.on_batch_end()
    trainer.fit_loop.epoch_loop.batch_progress.increment_completed()
    trainer._logger_connector.update_train_step_metrics()


def logger_step(trainer: Trainer) -> int:
    """The step under which the loggers get the next row."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_logger_step(trainer: Trainer, step: int) -> None:
    """Set the step under which the loggers get the next row."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def is_accumulating(trainer: Trainer) -> bool:
    """Whether the last batch was one of those whose gradients wait for more."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def will_validate(trainer: Trainer) -> bool:
    """Whether a validation follows the last batch."""
    return trainer.fit_loop.epoch_loop._should_check_val_fx(cast(Any, trainer.fit_loop._data_fetcher))


def epoch_is_over(trainer: Trainer) -> bool:
    """Whether the epoch has no batch left, while its validation runs too."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def epoch_results(trainer: Trainer) -> list[Any]:
    """What the running epoch has logged so far, as Lightning's result objects."""
    return list(trainer.fit_loop.epoch_loop._results.result_metrics)


def begin_whole_epoch(trainer: Trainer) -> None:
    """Tell Lightning's loops that a run which is continued begins an epoch from its first batch."""
    cast(Any, _Loop.restarting).fset(trainer.fit_loop, False)


def training_loaders(trainer: Trainer) -> list[Any]:
    """The loaders of training batches."""
    return list(cast(Any, trainer.fit_loop._combined_loader).flattened)


def fetch_again(trainer: Trainer) -> None:
    """Drop the training batches that are fetched ahead, and begin where the samplers stand now."""
    iter(cast(Any, trainer.fit_loop._data_fetcher))


def leave_batchnorm_alone(strategy: Strategy) -> None:
    """Keep a strategy from Lightning's own synchronized BatchNorm."""
    cast(Any, strategy)._layer_sync = None


def start_method(strategy: Any) -> str | None:
    """How a strategy starts processes: ``popen``, ``fork``, ``spawn``; None if it starts none."""
    return getattr(strategy, "_start_method", None)


def timeout_of(strategy: Any) -> timedelta | None:
    """How long a strategy's ranks wait for one another; None where there is one rank, or no timeout."""
    return getattr(strategy, "_timeout", None)


def set_timeout_of(strategy: Any, timeout: timedelta) -> None:
    """Set it, in a strategy that has one."""
    if hasattr(strategy, "_timeout"):
        strategy._timeout = timeout


def state_names(metric: Metric) -> list[str]:
    """Names of a metric's states."""
    return list(metric._defaults)


def mark_updated(metric: Metric) -> None:
    """Count restored states as an update; torchmetrics would warn that there was none."""
    metric._update_count += 1
