"""What is looked at before a command starts, so that a mistake costs seconds and leaves nothing behind."""

import difflib
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from inceptionnext_lit.cli.continuing import is_finished
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask


def check_continuation(checkpoint: dict[str, Any], config: Any, *, is_training: bool) -> None:
    """Refuse a checkpoint of another model, and a training that has nothing left to do.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        config: The parsed arguments of the command.
        is_training: Whether the command trains on.

    Raises:
        UserError: In both cases.
    """
    stored, wanted = checkpoint["hyper_parameters"]["name"], config.model.init_args.name
    if stored != wanted:
        raise UserError(f"The checkpoint holds the model {stored!r}, not {wanted!r}; give --model.name {stored}.")
    if is_training and (done := is_finished(checkpoint, config.trainer)):
        raise UserError(f"The checkpoint {done}.")


def check_monitor(monitor: str, model: LightningModule) -> None:
    """Refuse to choose the best epoch by a figure that will never be logged.

    Args:
        monitor: Name of the figure.
        model: The task, of which ``ClassificationTask`` tells its figures.

    Raises:
        UserError: If there is no such figure.
    """
    if not isinstance(model, ClassificationTask):
        return
    if monitor not in model.figures:
        near = difflib.get_close_matches(monitor, model.figures, n=3) or model.figures
        raise UserError(f"checkpoint.monitor is {monitor!r}, which is not logged; did you mean {' or '.join(near)}?")


def check_writable(root: Path) -> None:
    """Refuse an output folder that cannot be written.

    Args:
        root: Where run folders are made; it is made if it does not exist.

    Raises:
        UserError: If it cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(
            f"The output folder {root} cannot be written: {error.strerror}. Name another one with "
            "--trainer.default_root_dir."
        ) from error
