"""Turn errors of libraries and of the system into sentences: what failed, and what to do."""

import difflib
import errno
import os
import re
import traceback
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import StrategyRegistry

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.clock import format_seconds
from inceptionnext_lit.wording import count, first_line


def explain_failure(
    error: BaseException,
    batch_size: int | None,
    *,
    folder: Path | None = None,
    silent: str | None = None,
    timeout_s: float = 0.0,
) -> UserError | None:
    """Explain a failure of a running command, if it is one that a user can fix.

    Args:
        error: What was raised while a command ran.
        batch_size: Images per batch and device.
        folder: Where the run writes.
        silent: Which rank has not responded and for how long, if known.
        timeout_s: Seconds that ranks wait for each other.

    Returns:
        The error to show instead; None if the original one is more helpful.
    """
    if (known := explain_full_disk(error, folder) or explain_kernel(error)) is not None:
        return known
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: " in text:
        of_images = "this batch" if batch_size is None else f"batches of {count(batch_size, 'image')}"
        smaller = "" if batch_size is None or batch_size < 2 else f" {batch_size // 2}"
        return UserError(
            f"Out of memory with {of_images} (data.batch_size). Two options help: --data.batch_size"
            f"{smaller}, which keeps the images per step if the recipe sets data.global_batch_size, and "
            "--model.execution.grad_checkpointing true, which recomputes activations instead of storing them."
        )
    if found := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", text):
        return UserError(
            f"A loader process (pid {found[1]}) has died: {found[2].rstrip('. ')}. The usual cause is running out of "
            "memory; lower --data.num_workers, then continue with --ckpt_path last."
        )
    if not isinstance(error, torch.distributed.DistError) and not re.search(_LOST_PEER, text):
        return explain_setting(error)
    if silent is not None:
        return UserError(
            f"{silent}, so this run ends. Check whether it was stopped or its machine is down. {_CONTINUE}"
        )
    if found := re.search(r"(\d+)/(\d+) clients joined", text):
        return UserError(
            f"Only {found[1]} of {found[2]} ranks of this run joined within {format_seconds(timeout_s)}. Check why the "
            f"others did not start. {_CONTINUE}"
        )
    if re.search(r"[Tt]imed out|timeout", text):
        return UserError(f"A rank of this run did not respond within {format_seconds(timeout_s)}. {_CONTINUE}")
    return UserError(
        "Another rank of this run has ended, so this one ends too; the other rank's message says why. "
        "The run continues with --ckpt_path last."
    )


def explain_full_disk(error: BaseException, folder: Path | None = None) -> UserError | None:
    """Explain a full disk, if that is what failed.

    Args:
        error: What was raised.
        folder: The output folder, used if the error does not name the file.
    """
    said = next((code for code in _FULL if getattr(error, "errno", None) == code or f"[Errno {code}]" in str(error)), 0)
    if not said:
        return None
    before = error.__context__  # closing a file after a failed write fails again
    if isinstance(before, UserError):
        return before
    place = getattr(error, "filename", None) or folder or "A file"
    return UserError(
        f"{place} could not be written: {os.strerror(said)}. Earlier files are intact. Free some space, then retry; "
        "fit continues with --ckpt_path last."
    )


def explain_kernel(error: BaseException) -> UserError | None:
    """Explain an error of Triton, whose kernels are those of the token mixers or of a compiled model.

    Args:
        error: What was raised.
    """
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__module__.partition(".")[0] == "triton":
            return UserError(
                f"A Triton kernel failed: {first_line(cause)}. Set model.execution.kernels to torch and "
                "model.execution.compile to false; the run continues with --ckpt_path last."
            )
        cause = cause.__cause__
    return None


def user_error_behind(error: BaseException) -> UserError | None:
    """Return the error of one of our constructors that a jsonargparse error wraps, if any.

    If a value may have several types, jsonargparse chains only the first type's error and quotes the others.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if quoted := re.search(r"^\s*- ((?:data|model)\.\S+ is .*)$", str(cause), re.MULTILINE):
            return UserError(quoted[1])
        if found := re.search(r"Try running `pip install (?:-U )?'?([\w.-]+)", str(cause)):
            name = re.search(r"class_path='[\w.]*?(\w+)'", str(cause))
            subject = name[1] if name else "This"
            return UserError(f"{subject} needs a package that is not installed: pip install {found[1]}.")
        cause = cause.__cause__
    return None


def explain_setting(error: BaseException) -> UserError | None:
    """Explain a library's error about a setting that it rejects.

    Args:
        error: What was raised.

    Returns:
        The error to show instead; None if a library did not raise it for its arguments.
    """
    if not isinstance(error, (ValueError, TypeError, MisconfigurationException)):
        return None
    text = " ".join(str(error).split())
    for pattern, sentence in _MEANINGS.items():
        if found := re.search(pattern, text):
            return UserError(sentence.format(*found.groups()))
    if found := re.search(r"invalid strategy name: `strategy='(.*?)'`", text):
        known = StrategyRegistry.available_strategies()
        near = difflib.get_close_matches(found[1], known, n=3) or ["auto", *known]
        return UserError(f"Unknown trainer.strategy {found[1]!r}; choose {' or '.join(near)}.")
    innermost = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    package = next((str(frame.f_globals.get("__name__")).partition(".")[0] for frame in innermost), "")
    if package not in _LIBRARIES or not text:
        return None
    return UserError(f"{text.rstrip('.')}. (Raised by {package}; --debug shows where.)")


_CONTINUE = (
    "The run continues with --ckpt_path last; --strategy_timeout sets how many seconds ranks wait for each other."
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOST_PEER = r"[Cc]onnection (?:closed|reset) by peer|Broken pipe|gloo|NCCL"
_LIBRARIES = ("jsonargparse", "lightning", "lightning_fabric", "timm", "torch", "torchmetrics", "torchvision")
_MEANINGS = {  # a library's message: our explanation
    r"Expected more than 1 value per channel when training": (
        "BatchNorm cannot train on a single value per channel, which a batch of 1 image gives on a feature map "
        "of 1×1; choose a --data.batch_size of 2 or more, or a larger --data.image_size."
    ),
    r"`val_check_interval` \((\d+)\) must be less than or equal to the number of the training batches \((\d+)\)": (
        "trainer.val_check_interval is {0}, but an epoch has only {1} batches; choose {1} or less, or count across "
        "epochs with --trainer.check_val_every_n_epoch null."
    ),
    r"`Trainer\(barebones=True": (
        "trainer.barebones disables the logs, checkpoints and progress that every run here has; leave it out."
    ),
}
