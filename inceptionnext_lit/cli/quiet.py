"""Silence library messages that users cannot act on. Each has the reason why it is silenced."""

import logging
import re
import warnings
from pathlib import Path

import inceptionnext_lit
from inceptionnext_lit.wording import printable, printable_lines

# Beginnings of messages as regular expressions.
WARNINGS = [
    # our commands pass the arguments that they have changed, as cross_validate and predict do
    r"LightningCLI's args parameter is intended to run from within Python",
    # TensorBoard's logger has just created the folder, which both loggers use
    r"Experiment logs directory .* exists and is not empty",
    # Lightning on a newer torch; to fix in Lightning, not by users
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # log_every_n_steps above an epoch's length only makes the per-step curves of tiny runs sparser
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # the folder belongs to this run, just created, or to the run that is continued
    r"Checkpoint directory .* exists and is not empty",
    # prediction and evaluation do not need the checkpoint callbacks of training
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # a run that stops before its first validation has no best epoch; its state is in last.ckpt
    r"`ModelCheckpoint\(monitor=.*\)` could not find the monitored key",
    # a run continued in a new folder tracks its best epoch there
    r"The dirpath has changed from",
    # our sampler resumes the epoch where the checkpoint was written
    r"You're resuming from a checkpoint that ended before the epoch ended",
    # our evaluation sampler yields every image exactly once, for any number of ranks
    r"Using `DistributedSampler` with the dataloaders",
    # the model of the averaged weights, which is never trained
    r"Found \d+ module\(s\) in eval mode at the start of training",
]

# Advertising, and repetitions of the run's first lines.
INFO = (
    "💡 Tip:",
    "GPU available:",
    "Initializing distributed:",
    "-----",  # the banner with the number of processes, which the summary shows too
    "Restoring states from",
    "Restored all states from",
    "Loaded model weights from",
    "TPU available:",
    "Loading `train_dataloader`",
    "Seed set to",
    "`Trainer.fit` stopped:",
)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether to log a record, after escaping its control characters."""
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return not re.sub(r"^\[rank: \d+\] ", "", record.getMessage()).startswith(INFO)


_PACKAGE = Path(inceptionnext_lit.__file__).parent
_library_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format our own warnings as the message alone, without the source line."""
    if Path(filename).is_relative_to(_PACKAGE):
        return f"warning: {printable(str(message))}\n"
    return printable_lines(_library_format(message, category, filename, lineno, line))


def silence_library_chatter() -> None:
    """Filter the messages above from this process's warnings and logs."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = _format_warning
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.distributed",
        "lightning.fabric.utilities.seed",
    ):
        logging.getLogger(name).addFilter(_is_news)
    # torch reports the CUDA folder even if it compiles for a CPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # five lines of retries without a network; the error that follows says what to do
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    # what it does not find off a Mac, and the release of torch that it was tested with; exported files are checked
    logging.getLogger("coremltools").addFilter(lambda record: record.levelno >= logging.ERROR)
    # inequalities of an image's sides that torch.export cannot simplify, and keeps as they are
    logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)
    # enums that torchao registers needlessly for newer releases of torch
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
