"""Loggers of a run: CSV and TensorBoard in its folder, and any others that a recipe adds."""

import csv
import os
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from inceptionnext_lit.cli.runs.latest_run import Continuation
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import OwnWriterLogger, RowWriter, has_writer, purge_from
from inceptionnext_lit.safe_save import replacing


class _Writer(RowWriter):
    """Lightning's writer of ``metrics.csv``, but a kill at any time keeps the rows.

    Attributes:
        rows: Number of rows in the file, including those not yet written.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.rows = 0

    def log_metrics(self, metrics_dict: dict[str, float], step: int | None = None) -> None:
        """Record metrics as a row."""
        super().log_metrics(metrics_dict, step)
        self.rows += 1

    def begin_with(self, rows: list[dict[str, Any]]) -> None:
        """Reduce the file to these rows; without any, the file is removed."""
        self.rows = len(rows)
        if not rows:
            Path(self.metrics_file_path).unlink(missing_ok=True)
            return
        self.metrics_keys = sorted(set().union(*rows))
        with replacing(Path(self.metrics_file_path)) as partial:
            self._write(partial, rows)

    def save(self) -> None:
        """Write the new rows.

        Raises:
            UserError: If the file cannot be written.
        """
        path = Path(self.metrics_file_path)
        size = path.stat().st_size if path.is_file() else None
        try:
            super().save()
        except OSError as error:
            if size is not None:
                with suppress(OSError):
                    os.truncate(path, size)  # half a row would spoil the next one
            raise UserError(
                f"The metrics could not be written to {path}: {error.strerror}. The checkpoints are "
                "intact. Free some space, then continue with --ckpt_path last."
            ) from error

    def rewrite(self) -> None:
        """Rewrite the file with the new columns."""
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with replacing(path) as partial:
            self._write(partial, rows)

    def _write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


class ContinuedCSVLogger(OwnWriterLogger):
    """CSVLogger that keeps the rows of the run that it continues; Lightning's deletes them.

    Args:
        save_dir: Folder of all runs.
        name: Folder of one recipe's runs in it.
        version: N of the run's folder ``version_N``.
        continued: The run that is continued; None for a new one.
    """

    def __init__(self, save_dir: str, name: str, version: int, continued: Continuation | None) -> None:
        super().__init__(save_dir, name, version)
        self._continued = continued

    def finalize(self, status: str) -> None:
        """Write the remaining rows; after a failure, ignore write errors so that the failure itself is reported."""
        with suppress(UserError) if status == "failed" else nullcontext():
            super().finalize(status)

    def make_writer(self) -> RowWriter:
        """Create the writer with the kept rows."""
        os.makedirs(self.root_dir, exist_ok=True)
        writer = _Writer(self.log_dir)
        if self._continued is not None:
            writer.begin_with(kept_rows(Path(writer.metrics_file_path), self._continued))
        return writer

    def rows_on_disk(self) -> int:
        """Write all rows and return their number; for rank 0."""
        self.save()
        return int(self.experiment.rows)


class ContinuedTensorBoardLogger(TensorBoardLogger):
    """TensorBoardLogger that continues the curves of the run that it continues.

    Args:
        save_dir: Folder of all runs.
        name: Folder of one recipe's runs in it.
        version: N of the run's folder ``version_N``; None for the next one.
        continued: The run that is continued; None for a new one.
    """

    def __init__(self, save_dir: str, name: str, version: int | None, continued: Continuation | None) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
        self._continued = continued

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; it logs the newest step again, since a kill may have lost part of it."""
        if has_writer(self) or self._continued is None:
            return super().experiment
        rows = kept_rows(Path(self.log_dir, _Writer.NAME_METRICS_FILE), self._continued)
        newest = int(rows[-1]["step"]) if rows else 0
        purge_from(self, newest)  # hides what was logged from that step on
        writer = super().experiment
        for row in rows:
            if int(row["step"]) == newest:
                self.log_metrics({key: float(value) for key, value in row.items() if key != "step"}, newest)
        return writer

    def save(self) -> None:
        """Write immediately; torch would buffer for two minutes."""
        super().save()
        self.experiment.flush()


def kept_rows(path: Path, continued: Continuation) -> list[dict[str, Any]]:
    """Return the rows of a CSV file up to the checkpoint that is continued.

    Args:
        path: The file; a missing file has no rows.
        continued: The run.

    Returns:
        A dictionary of values for each row.
    """
    if not path.is_file():
        return list(continued.pending)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        table = csv.DictReader(line.replace("\0", "") for line in file)
        # a kill during a write leaves a truncated last row
        whole = [row for row in table if None not in row.values() and str(row.get("step")).isdecimal()]
    rows = [{key: value for key, value in row.items() if value} for row in whole]
    if continued.rows is None:
        return [row for row in rows if int(row["step"]) < continued.step]
    return [*rows[: continued.rows], *continued.pending]


def folder_loggers(
    root: str, run_name: str, number: int | None, continued: Continuation | None
) -> tuple[TensorBoardLogger, ContinuedCSVLogger]:
    """Create the two loggers of a run's folder ``root/run_name/version_N``, without writing anything.

    Args:
        root: Folder of all runs.
        run_name: Folder of one recipe's runs in it.
        number: N; None on ranks other than 0, which write nothing.
        continued: The run whose folder is reused; None for a new one.
    """
    tensorboard = ContinuedTensorBoardLogger(root, run_name, number, continued)
    return tensorboard, ContinuedCSVLogger(root, run_name, int(tensorboard.version), continued)


def give_defaults(config: Any, root: str, run_name: str) -> None:
    """Set the run's name and the output folder in a recipe's loggers, unless the recipe sets them.

    Args:
        config: The parsed ``trainer.logger`` before it is instantiated; changed in place.
        root: Folder of all runs.
        run_name: Name of this one.
    """
    for logger in config if isinstance(config, list) else [config]:
        name = str(getattr(logger, "class_path", "")).rpartition(".")[2]
        given = getattr(logger, "init_args", None)
        save_dir = None if given is None else given.get("save_dir")
        for key, (unset, value) in _defaults(name, save_dir, root, run_name).items():
            if logger.init_args.get(key) in unset:
                logger.init_args[key] = value


def _defaults(logger: str, save_dir: str | None, root: str, run_name: str) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Return, by argument name, the values that count as unset, and the default to use then."""
    if logger == "WandbLogger":
        return {"save_dir": ((".",), root), "name": ((None,), run_name)}
    if logger == "MLFlowLogger":
        # used unless MLFLOW_TRACKING_URI names a server; MLflow no longer supports a plain folder
        folder = Path(root if save_dir in (None, "./mlruns") else save_dir).absolute()
        unset = (None,) if "MLFLOW_TRACKING_URI" not in os.environ else ()
        return {
            "experiment_name": (("lightning_logs",), run_name),
            "tracking_uri": (unset, f"sqlite:///{folder / 'mlflow.db'}"),
            "artifact_location": (unset, str(folder / "mlartifacts")),
        }
    return {}


def all_loggers(named: Logger | Iterable[Logger] | bool | None, of_folder: Iterable[Logger]) -> list[Logger]:
    """Return the folder's loggers, followed by those of the recipe.

    Args:
        named: ``trainer.logger``; not False.
        of_folder: What :func:`folder_loggers` returns; the first one determines the run's folder.
    """
    added = [] if named in (None, True) else [named] if isinstance(named, Logger) else list(named)  # type: ignore[arg-type]
    return [*of_folder, *added]
