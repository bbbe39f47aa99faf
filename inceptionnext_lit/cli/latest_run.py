"""Where a run lives, and where ``--ckpt_path last`` finds it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from inceptionnext_lit.cli.run_folder import versions
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
        version: N of its folder ``version_N``, which is used on.
        checkpoint: Where it continues; None if it was stopped before its first checkpoint.
        step: The optimiser steps that it has done.
        rows: Rows of figures that it had logged by then; None if the checkpoint does not tell, as those of a foreign
            module do not.
        pending: The row that it was about to log, if any.
    """

    version: int
    checkpoint: Path | None
    step: int = 0
    rows: int | None = None
    pending: tuple[dict[str, float], ...] = ()


def run_name(config: Any) -> str:
    """Name of the folder of a recipe's runs: as it says itself, or else the recipe's file name, or the model's.

    Args:
        config: The parsed arguments of a command.

    Raises:
        UserError: If the name is none of a folder.
    """
    files = config.get("config") or []
    name = config.get("run_name") or (Path(str(files[0])).stem if files else config.model.init_args.name)
    if Path(name).name != name:
        raise UserError(f"run_name is {name!r}; it must be the name of one folder, without slashes.")
    return str(name)


def find_continuation(root: Path) -> tuple[Continuation | None, OpenCheckpoint | None]:
    """Find the newest run below a folder.

    Args:
        root: Folder of the runs of one recipe, with ``version_N`` in it.

    Returns:
        The run, and the checkpoint that it continues from; None where there is none.
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
    """Tell whether a checkpoint's run has nothing left to do.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        trainer: The trainer's parsed arguments.
        kept: The parsed arguments on checkpoints, of which ``monitor`` and ``patience`` may end a run early.

    Returns:
        What it has done and which key would let it go on; None if there is something left.
    """
    if KEY in checkpoint:
        epochs = checkpoint[KEY]["epoch"]
    else:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        epochs = checkpoint["epoch"] + bool(progress["is_last_batch"])
    steps = checkpoint["global_step"]
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        return f"has {count(epochs, 'epoch')} already; give --trainer.max_epochs more than {trainer.max_epochs}"
    if 0 <= trainer.max_steps <= steps:
        return f"has {count(steps, 'step')} already; give --trainer.max_steps more than {trainer.max_steps}"
    for name, state in checkpoint.get("callbacks", {}).items():
        # the name ends in a dictionary: StopEarly{'monitor': 'val/acc1', 'mode': 'max'}
        is_ours = name.startswith("StopEarly") and (kept.monitor == "auto" or f"'monitor': {kept.monitor!r}" in name)
        waited = is_ours and kept.patience is not None and state["wait_count"] >= kept.patience
        if waited and epochs >= (trainer.min_epochs or 0) and steps >= (trainer.min_steps or 0):
            return f"was stopped early, after {count(state['wait_count'], 'validation')} without a better figure"
    return None


def remove_leftovers(run_folder: Path) -> None:
    """Remove what a kill in the middle of a save has left behind."""
    for path in (run_folder / FOLDER).glob(".*.partial"):
        path.unlink(missing_ok=True)


@rank_zero_only
def say(text: str) -> None:
    """Print, once for all processes."""
    print(printable_lines(text), flush=True)
