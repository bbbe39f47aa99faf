"""The options of ``evaluate`` that store a calibration in a copy of the checkpoint."""

import argparse
from dataclasses import replace
from pathlib import Path

from inceptionnext_lit.cli.evaluate.candidates import Candidate
from inceptionnext_lit.cli.exported_file import is_exported
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.evaluation.analysis import Analysis, MultiLabelDetails
from inceptionnext_lit.reports.evaluation.calibration import Scaling
from inceptionnext_lit.tasks.classification.calibration import save_calibrated
from inceptionnext_lit.wording import count

_FEWEST = 50  # images that a stored temperature is fitted on


def check_calibrated(options: argparse.Namespace) -> None:
    """Refuse to save a calibration that cannot be, before anything is computed.

    Args:
        options: The options of ``evaluate``.

    Raises:
        UserError: If there is not exactly one checkpoint, or the file exists or is named differently by two options.
    """
    asked = [given for given in (options.save_temperature, options.save_thresholds) if given is not None]
    if not asked:
        return
    if len(options.checkpoints) != 1:
        raise UserError("--save_temperature and --save_thresholds store a calibration in a copy of one checkpoint.")
    if is_exported(Path(options.checkpoints[0])):
        raise UserError(
            f"A calibration is stored in a checkpoint, and {options.checkpoints[0]} is an exported file; evaluate its "
            "checkpoint, then export the calibrated copy."
        )
    if len({*asked}) > 1:
        raise UserError("--save_temperature and --save_thresholds name two files; a calibration is stored in one.")
    target = _calibrated(options)
    if target.exists() and not options.overwrite:
        raise UserError(f"{target} already exists; add --overwrite to replace it, or name another file.")


def _check_scaling(scaling: Scaling | None) -> None:
    """Refuse a temperature of few images, or one that makes other images worse."""
    if scaling is None or scaling.fitted_on < _FEWEST:
        fitted = 0 if scaling is None else scaling.fitted_on
        raise UserError(
            f"The temperature was fitted on {count(fitted, 'image')}, and --save_temperature needs {_FEWEST} or more; "
            "evaluate more images. The report is written."
        )
    if scaling.after.log_loss > scaling.before.log_loss:
        raise UserError(
            f"The temperature {scaling.temperature:.3f} raises the log loss of other images from "
            f"{scaling.before.log_loss:.4f} to {scaling.after.log_loss:.4f}, so it was not saved. The report "
            "is written."
        )


def _calibrated(options: argparse.Namespace) -> Path:
    given = options.save_temperature if options.save_temperature is not None else options.save_thresholds
    named = Path(given).expanduser() if given else None
    return named or options.output / f"{Path(options.checkpoints[0]).stem}_calibrated.ckpt"


def save_calibration(options: argparse.Namespace, candidate: Candidate, analysis: Analysis) -> list[Path]:
    """Write the copy with a calibration, if it is asked for.

    Args:
        options: The options of ``evaluate``.
        candidate: The evaluated model.
        analysis: Its evaluation.

    Returns:
        The written file, if any.

    Raises:
        UserError: If the calibration is not reliable, or the copy cannot be written.
    """
    if options.save_temperature is None and options.save_thresholds is None:
        return []
    calibration = candidate.task.calibration
    if options.save_thresholds is not None:
        if not isinstance(analysis.details, MultiLabelDetails) or analysis.details.thresholds is None:
            raise UserError("--save_thresholds needs a model whose images may have several labels, and two images.")
        calibration = replace(calibration, thresholds=analysis.details.thresholds.values.tolist())
    if options.save_temperature is not None:
        _check_scaling(analysis.scaling)
        assert analysis.scaling is not None
        calibration = calibration.scaled(analysis.scaling.temperature)
    assert candidate.path is not None
    save_calibrated(candidate.path, target := _calibrated(options), calibration)
    return [target]
