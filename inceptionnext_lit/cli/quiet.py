"""Library messages that a person can do nothing about. Each has the reason why it is silenced."""

import logging
import re
import warnings
from pathlib import Path

import inceptionnext_lit
from inceptionnext_lit.wording import printable, printable_lines

# (beginning of the message as a regular expression, reason)
WARNINGS = [
    # cross_validate resolves a command line, and predict takes its plain words out of one, before Lightning parses it
    r"LightningCLI's args parameter is intended to run from within Python",
    # TensorBoard's logger has just made this very folder for both loggers
    r"Experiment logs directory .* exists and is not empty",
    # Lightning on a newer torch; mended in Lightning, not by its users
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # log_every_n_steps beyond an epoch's length only thins out per-step curves of tiny runs
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # the folder is that of this run, which was just made, or of the run that is being continued
    r"Checkpoint directory .* exists and is not empty",
    # prediction and evaluation have no use for the callbacks that kept checkpoints in training
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # a run that stops before its first validation has no best epoch; its end is in last.ckpt
    r"`ModelCheckpoint\(monitor=.*\)` could not find the monitored key",
    # a continued run has a folder of its own, and its best epoch is counted there
    r"The dirpath has changed from",
    # the order of the images is the sampler's, which begins an epoch where the checkpoint was written
    r"You're resuming from a checkpoint that ended before the epoch ended",
    # our evaluation sampler deals out every image once, whatever the number of processes
    r"Using `DistributedSampler` with the dataloaders",
    # the averaged weights' model, which is never trained itself
    r"Found \d+ module\(s\) in eval mode at the start of training",
]

# Advertising, and a repetition of what the run's first lines say.
INFO = (
    "💡 Tip:",
    "GPU available:",
    "Initializing distributed:",
    "-----",  # the banner with the number of processes, which the summary has too
    "Restoring states from",
    "Restored all states from",
    "Loaded model weights from",
    "TPU available:",
    "Loading `train_dataloader`",
    "Seed set to",
    "`Trainer.fit` stopped:",
)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to log a record; what is foreign in it comes as escapes."""
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return not re.sub(r"^\[rank: \d+\] ", "", record.getMessage()).startswith(INFO)


_PACKAGE = Path(inceptionnext_lit.__file__).parent
_library_format = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are for people: the sentence alone, without a line of code."""
    if Path(filename).is_relative_to(_PACKAGE):
        return f"warning: {printable(str(message))}\n"
    return printable_lines(_library_format(message, category, filename, lineno, line))


def silence_library_chatter() -> None:
    """Filter the messages above out of this process's warnings and logs."""
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
    # compiling for a CPU, torch finds the folder of a CUDA that nobody asked for
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # five lines of retries without a network; the error that follows says what was wanted and the way out
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
