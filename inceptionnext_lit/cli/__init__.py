"""The command line. This module imports only what ``--help`` needs; the rest is imported when a command runs."""

import errno
import gc
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, ModuleType
from typing import NoReturn

from inceptionnext_lit import __version__
from inceptionnext_lit.cli.exported_file import exported_file
from inceptionnext_lit.cli.output import outliving_readers
from inceptionnext_lit.errors import SharedError, UserError
from inceptionnext_lit.printing import print_error
from inceptionnext_lit.program import as_called
from inceptionnext_lit.wording import did_you_mean, printable_lines

INTERRUPTED = 130  # the shell's exit code for Ctrl-C
DEBUG = "INCEPTIONNEXT_LIT_DEBUG"  # set to 1 to print errors with their traceback
COMMANDS = {
    "fit": "train: a recipe from configs/, on ImageNet or a folder of your own images",
    "validate": "metrics of a checkpoint, or of published weights, on the validation split",
    "test": "metrics of a checkpoint, or of published weights, on the test split",
    "predict": "labels for images, written to a .csv, .jsonl, .json or .parquet file",
}
TOOLS: dict[str, str] = {}  # commands that do not use the trainer
_MODULES: dict[str, str] = {}  # their modules
_PREDICT_EXPORTED = f"{__name__}.commands.predict_exported"

_OVERVIEW = """\
Train, evaluate and apply the InceptionNeXt family of image models.

usage: python cli.py COMMAND [--config RECIPE] [--KEY VALUE ...]

commands:
{commands}

examples:
  python cli.py predict photo.jpg --model.name inceptionnext_tiny --model.pretrained true
  python cli.py fit --config quickstart
  python cli.py fit --config finetune/folder --data.root MY_IMAGES
  python cli.py fit --config iso_s --data.root IMAGENET
  python cli.py validate --ckpt_path runs/quickstart/version_0/checkpoints/best.ckpt --data.root sample
  python cli.py predict PHOTOS_OR_FOLDERS --ckpt_path best.ckpt --output labels.csv
  python cli.py budget inceptionnext_iso_small --by_module 1
  python cli.py export best.ckpt --format onnx --output best.onnx
  python cli.py serve best.ckpt --port 8000
  python cli.py convert best.ckpt --output best.safetensors
  python cli.py doctor MY_IMAGES --output report.html

python cli.py COMMAND --help lists the common options, --help all lists every key; --version prints the version.
With --debug, or INCEPTIONNEXT_LIT_DEBUG=1, errors are printed with their traceback.
"""


def add_command(name: str, meaning: str, module: str) -> None:
    """Register a command with :func:`main`, its overview and its hints for misspelled commands.

    Args:
        name: The command's name on the command line.
        meaning: What the command does, in lower case and without a period: it follows the name in the overview.
        module: Full name of the module with a function ``run``, which takes the arguments after the command and returns
            the exit code, or None for 0. It is imported when the command is called.

    Raises:
        ValueError: If a command of that name exists.
    """
    if name in COMMANDS | TOOLS:
        raise ValueError(f"The command {name!r} already exists; choose another name.")
    TOOLS[name], _MODULES[name] = meaning, module


for _name, _meaning in {
    "evaluate": "metrics with intervals, confusions, calibration, mistakes and label errors, as a page and JSON",
    "explain": "heat maps of what models look at, their feature maps' spectra and receptive fields, as figures",
    "cross_validate": "train once per fold of a data set, and report the mean and spread of the metrics",
    "transfer": "a table of models on data sets: fine-tuned, by logistic regression, and by nearest neighbors",
    "benchmark": "images per second of models in training or inference, compared",
    "budget": "parameters, MACs and activations of any model, or of the paper's tables",
    "export": "save a model as a file that other programs run: ONNX, OpenVINO and others",
    "serve": "label images over HTTP, with a page to drop images on",
    "convert": "save a checkpoint's weights as a .safetensors file with the published names",
    "prepare": "turn a public data set, such as CIFAR-100 or ImageNet, into a folder or manifest to train on",
    "doctor": "find problems in a folder of images before you train on it",
    "recipes": "list the recipes that ship with the toolkit, for --config",
}.items():
    add_command(_name, _meaning, f"{__name__}.commands.{_name}")


def main(args: list[str] | None = None) -> None:
    """Run a command.

    Args:
        args: Command-line arguments after the program's name; those of this process if not given.

    Raises:
        SystemExit: With code 1 after an error that the user can fix, 2 if the command line is wrong.
    """
    words = sys.argv[1:] if args is None else args
    if "--debug" in words:
        os.environ[DEBUG] = "1"  # inherited by child processes
        words = [word for word in words if word != "--debug"]
    with outliving_readers(goes_on=words[:1] in (["fit"], ["cross_validate"], ["transfer"], ["serve"])):
        code = _answer(words, is_program=args is None)
    if code:
        sys.exit(code)


def _answer(words: list[str], *, is_program: bool) -> int:
    """Answer a command line and return the exit code.

    Args:
        words: Arguments after the program's name.
        is_program: Whether this process only runs the command.
    """
    if not words or words[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<14} {meaning}" for name, meaning in (COMMANDS | TOOLS).items())
        print(as_called(_OVERVIEW.format(commands=commands)), end="")
        return 0
    if words[0] == "--version":
        print(f"inceptionnext-lit {__version__}")
        return 0
    if words[0] not in COMMANDS | TOOLS:
        known = COMMANDS | TOOLS
        hint = did_you_mean(words[0], known, most=1, otherwise=f"choose one of {', '.join(known)}.")
        print_error(f"Unknown command {words[0]!r}; {hint}")
        return 2
    if words[0] in COMMANDS and words[1:] in (["-h"], ["--help"]):
        print(import_module(f"{__name__}.parsing.screens").first_screen(words[0]), end="")
        return 0
    return _run_command(words, is_program=is_program)


def _run_command(words: list[str], *, is_program: bool) -> int:
    """Run a command, print the error that ended it, if any, and return the exit code."""
    try:
        with _interrupts_end(is_program=is_program):
            module = import_heavy(_module_of(words))
        is_tool = words[0] in TOOLS or module.__name__ == _PREDICT_EXPORTED
        code: int | None = module.run(words[1:] if is_tool else words)
    except UserError as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            print(printable_lines("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        rank = int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)
        if rank == 0 or not isinstance(error, SharedError):
            print_error(_message(error), rank)
        code = error.code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or "A file"
        print_error(f"{place} could not be written: {error.strerror}. Free some space, then try again.")
        code = 1
    return code or 0


def _module_of(words: list[str]) -> str:
    """Return the module of a command."""
    if words[0] == "predict" and exported_file(words[1:]) is not None:
        return _PREDICT_EXPORTED
    return _MODULES.get(words[0], f"{__name__}.commands.fit")


@contextmanager
def _interrupts_end(*, is_program: bool) -> Iterator[None]:
    """Let Ctrl-C end a program at once while it imports libraries, some of which would raise errors of their own.

    Args:
        is_program: Whether this process only runs the command.
    """
    if not is_program or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


def import_heavy(name: str, without: str | None = None) -> ModuleType:
    """Import a module that imports torch, with the garbage collector off, which saves a quarter of the time.

    These imports create many objects, all of which stay, and the collector would scan them again and again, also at the
    end of the program, which took a second longer. So they are frozen.

    Args:
        name: The module's full name.
        without: A package that the imported modules use only if it is there, and that the command does not need.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    hidden = without is not None and without not in sys.modules
    if hidden:
        sys.modules[str(without)] = None  # type: ignore[assignment] # makes its import fail
    try:
        return import_module(name)
    finally:
        if hidden:
            del sys.modules[str(without)]
        gc.freeze()
        gc.enable()


def _message(error: UserError) -> str:
    """Return the message without the traceback that a loader's worker process prepends."""
    return str(error).rsplit("UserError: ", 1)[-1].strip()
