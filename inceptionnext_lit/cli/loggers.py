"""Where a run's figures go: CSV and TensorBoard in its own folder, and wherever a recipe names besides."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from inceptionnext_lit.cli.continuing import Continuation


class ContinuedCSVLogger(CSVLogger):
    """CSVLogger that goes on with the rows of the run that it continues; Lightning's own deletes them.

    Args:
        save_dir: Folder of all runs.
        name: Folder of one recipe's runs in it.
        version: N of the run's folder ``version_N``.
        continued: The run that is continued; None for a new one.
    """

    def __init__(self, save_dir: str, name: str, version: int, continued: Continuation | None) -> None:
        super().__init__(save_dir, name, version)
        self._continued = continued

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; it has the kept rows when it is made."""
        if self._experiment is not None or self._continued is None:
            return super().experiment
        rows = kept_rows(Path(self.log_dir, "metrics.csv"), self._continued)
        writer: Any = super().experiment
        writer.metrics.extend(rows)
        return writer


def kept_rows(path: Path, continued: Continuation) -> list[dict[str, Any]]:
    """The rows of a CSV file that were written before the checkpoint which is continued.

    Args:
        path: The file; a missing one has no rows.
        continued: The run. A validation that is repeated is logged again, under its last step.

    Returns:
        A dictionary of the values of each row.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    last = continued.step - 1
    return [
        row
        for row in rows
        if int(row["step"]) < last or (int(row["step"]) == last and not (continued.repeats_validation and _ends(row)))
    ]


def _ends(row: dict[str, Any]) -> bool:
    """Whether a row is of a validation or of an epoch's end."""
    return any(key.startswith("val") or key in ("train/loss", "train/acc1") for key in row)


def folder_loggers(root: str, run_name: str, continued: Continuation | None) -> tuple[TensorBoardLogger, CSVLogger]:
    """The two loggers of a run's folder ``root/run_name/version_N``; nothing is written yet.

    Args:
        root: Folder of all runs.
        run_name: Folder of one recipe's runs in it.
        continued: The run whose folder is used on; None for a new one.
    """
    if continued is None:
        tensorboard = TensorBoardLogger(root, name=run_name, default_hp_metric=False)
    else:
        tensorboard = TensorBoardLogger(
            root, name=run_name, version=continued.version, default_hp_metric=False, purge_step=continued.step
        )
    return tensorboard, ContinuedCSVLogger(root, run_name, int(tensorboard.version), continued)


def give_defaults(config: Any, root: str, run_name: str) -> None:
    """Name the run, and put the files below the runs' folder, in loggers that a recipe names without saying so.

    Args:
        config: What the recipe gives as ``trainer.logger``, parsed but not yet made; changed in place.
        root: Folder of all runs.
        run_name: Name of this one.
    """
    for logger in config if isinstance(config, list) else [config]:
        name = str(getattr(logger, "class_path", "")).rpartition(".")[2]
        for key, (unset, value) in _defaults(name, root, run_name).items():
            if logger.init_args.get(key) in unset:
                logger.init_args[key] = value


def _defaults(logger: str, root: str, run_name: str) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Argument names with the values that mean nothing was given, and what to give then."""
    if logger == "WandbLogger":
        return {"save_dir": ((".",), root), "name": ((None,), run_name)}
    if logger == "MLFlowLogger":
        # where MLFLOW_TRACKING_URI names no server; MLflow takes no plain folder any more
        store = f"sqlite:///{Path(root, 'mlflow.db').absolute()}"
        unset = (None,) if "MLFLOW_TRACKING_URI" not in os.environ else ()
        return {
            "experiment_name": (("lightning_logs",), run_name),
            "tracking_uri": (unset, store),
            "artifact_location": (unset, str(Path(root, "mlartifacts").absolute())),
        }
    return {}


def all_loggers(named: Logger | Iterable[Logger] | bool | None, of_folder: Iterable[Logger]) -> list[Logger]:
    """The folder's loggers, then those that a recipe names.

    Args:
        named: ``trainer.logger``; not False.
        of_folder: What :func:`folder_loggers` gives; the first one tells the run's folder.
    """
    added = [] if named in (None, True) else [named] if isinstance(named, Logger) else list(named)  # type: ignore[arg-type]
    return [*of_folder, *added]
