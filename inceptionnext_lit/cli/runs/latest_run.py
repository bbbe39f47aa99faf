"""Find the run that ``--ckpt_path last`` continues."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from inceptionnext_lit.cli.runs.run_folder import versions
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.callbacks.checkpoints import FOLDER, find_last
from inceptionnext_lit.training.callbacks.curve import KEY as CURVE
from inceptionnext_lit.training.callbacks.resume import KEY
from inceptionnext_lit.training.checkpoint_io import OpenCheckpoint
from inceptionnext_lit.wording import count, printable_lines

LAST = "last"


@dataclass(frozen=True)
class Continuation:
    """The run that ``--ckpt_path last`` means.

    Attributes:
        version: N of its folder ``version_N``, which the run continues to use.
        checkpoint: Where to continue; None if the run stopped before its first checkpoint.
        step: Completed optimizer steps.
        rows: Rows of metrics logged by then; None if the checkpoint does not record it, such as one of a plain
            LightningModule.
        pending: The row that was about to be logged, if any.
    """

    version: int
    checkpoint: Path | None
    step: int = 0
    rows: int | None = None
    pending: tuple[dict[str, float], ...] = ()


def run_name(config: Any) -> str:
    """Return the folder name of a recipe's runs: ``run_name``, or else the recipe's file name, or the model's name.

    A model without a ``name`` has that of its class.

    Args:
        config: The parsed arguments of a command.

    Raises:
        UserError: If the name is not a folder name.
    """
    files = [file for file in config.get("config") or [] if file is not None]  # None: a recipe's text
    model = (config.model.get("init_args") or {}).get("name") or config.model.class_path.rpartition(".")[2]
    name = config.get("run_name") or (Path(str(files[0])).stem if files else model)
    if Path(name).name != name:
        raise UserError(f"run_name is {name!r}; it must be the name of one folder, without slashes.")
    return str(name)


def find_continuation(root: Path) -> tuple[Continuation | None, OpenCheckpoint | None]:
    """Find the newest run below a folder.

    Args:
        root: Folder of one recipe's runs, which has the folders ``version_N``.

    Returns:
        The run, and the checkpoint that it continues from; None for what does not exist.
    """
    numbers = sorted(versions(root))
    if not numbers:
        return None, None
    opened, unread = find_last([root / f"version_{number}" for number in numbers])
    for sentence in unread:
        say(f"Not used:   {sentence}")
    if opened is None:
        return Continuation(numbers[-1], None), None
    path = Path(opened.path)
    number = int(path.parent.parent.name.removeprefix("version_"))
    curve = opened.content.get(CURVE, {})
    pending = tuple(curve.get("pending", ()))
    return Continuation(number, path, int(opened.content["global_step"]), curve.get("rows"), pending), opened


def is_finished(checkpoint: dict[str, Any], trainer: Any, kept: Any) -> str | None:
    """Check whether a checkpoint's run is finished.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        trainer: The trainer's parsed arguments.
        kept: The parsed checkpoint options; ``monitor`` and ``patience`` may end a run early.

    Returns:
        What it has done and which key would extend it; None if it is not finished.
    """
    if KEY in checkpoint:
        epochs = checkpoint[KEY]["epoch"]
    else:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        epochs = checkpoint["epoch"] + bool(progress["is_last_batch"])
    steps = checkpoint["global_step"]
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        return f"has {count(epochs, 'epoch')} already; set --trainer.max_epochs above {trainer.max_epochs}"
    if 0 <= trainer.max_steps <= steps:
        return f"has {count(steps, 'step')} already; set --trainer.max_steps above {trainer.max_steps}"
    for name, state in checkpoint.get("callbacks", {}).items():
        # the name ends in a dictionary: StopEarly{'monitor': 'val/acc1', 'mode': 'max'}
        is_ours = name.startswith("StopEarly") and (kept.monitor == "auto" or f"'monitor': {kept.monitor!r}" in name)
        waited = is_ours and kept.patience is not None and state["wait_count"] >= kept.patience
        if waited and epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0):
            return f"was stopped early, after {count(state['wait_count'], 'validation')} without an improvement"
    return None


def remove_leftovers(run_folder: Path) -> None:
    """Remove the partial files of a save that a kill interrupted."""
    for path in (run_folder / FOLDER).glob(".*.partial"):
        path.unlink(missing_ok=True)


@rank_zero_only
def say(text: str) -> None:
    """Print on rank 0 only."""
    print(printable_lines(text), flush=True)
