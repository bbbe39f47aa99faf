"""``transfer``: how well models transfer to data sets, as a table of models and data sets."""

import argparse
import importlib.util
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from inceptionnext_lit.cli import TOOLS, import_heavy
from inceptionnext_lit.cli.recipes.shipped import find_config
from inceptionnext_lit.cli.tools import ToolParser, file_path, positive, sentence, whole_number
from inceptionnext_lit.errors import UserError

if TYPE_CHECKING:
    import torch

RECIPE = "transfer/finetune"
_PROTOCOLS = ("finetune", "linear", "knn")
_LIBRARIES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
_PARTS = ("--trainer.", "--data.", "--model.", "--checkpoint.")
_TAKEN = (
    "--data.root",
    "--data.multi_label",
    "--data.split",
    "--data.class_names",
    "--model.name",
    "--model.pretrained",
)
EXAMPLES = f"""\
Measures each model on each data set under each protocol, and writes table.md, table.csv, table.json and a bar plot
(table.png, table.svg) into a folder. A result is computed once: after an interruption, the same command goes on.

Models are names with published weights (NAME), NAME=FILE, NAME=random, and checkpoints of fit. Data sets are folders,
manifests, sample, and names of public data sets (prepare --list), which are prepared on first use.

linear and knn use the input of each model's last linear layer, which is computed once per image and model. finetune
trains with fit: its recipe is {RECIPE}, and further keys of fit may follow, such as --trainer.max_epochs 10.

examples:
  python cli.py transfer best.ckpt resnet50 --data MY_IMAGES --protocol linear knn --output transfer
  python cli.py transfer inceptionnext_tiny resnet50 --data cifar100 pets --protocol finetune --seeds 3 \\
    --lr_grid 3e-5 1e-4 3e-4 --output transfer
"""


def run(words: list[str]) -> int:
    """Run the command.

    Args:
        words: Command-line arguments after ``transfer``.

    Returns:
        Exit code: 1 if cells failed, 128 + signal if a signal has stopped it.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    options, further = _parse(words)
    _check_libraries()
    _check_folder(options.output)
    import_heavy("inceptionnext_lit.cli.transfer.cells")
    import torch

    from inceptionnext_lit.cli.quiet import silence_library_chatter
    from inceptionnext_lit.cli.runs.run_lock import RunLock
    from inceptionnext_lit.cli.transfer.cells import Transfer
    from inceptionnext_lit.cli.transfer.data import open_all
    from inceptionnext_lit.cli.transfer.finetune import FitOptions, Stopped
    from inceptionnext_lit.cli.transfer.models import parse_models
    from inceptionnext_lit.data.defaults import default_workers
    from inceptionnext_lit.reports.transfer.cells import FOLDER
    from inceptionnext_lit.reports.transfer.probing import ProbeOptions

    silence_library_chatter()
    models = parse_models(options.models)
    data = open_all(options.data)
    device = _device(options.device)
    workers = default_workers() if options.num_workers is None else options.num_workers
    cache = options.output / "features" if options.cache is None else options.cache
    recipes = tuple(find_config(recipe) for recipe in options.config or [RECIPE])
    try:
        (options.output / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output {options.output} cannot be written: {error.strerror}; give another folder."
        ) from error
    lock = RunLock(options.output, "Wait for it or stop it, or give another --output.")
    lock.acquire()
    try:
        return Transfer(
            options.output,
            models,
            data,
            list(dict.fromkeys(options.protocol)),
            options.seeds,
            ProbeOptions(cache, options.precision, device, options.batch_size, workers, options.max_iter),
            FitOptions(recipes, tuple(further), tuple(options.lr_grid or ()), device, options.batch_size, workers),
            shlex.join(["transfer", *words]),
        ).run()
    except Stopped as stopped:
        print(f"Stopped by {stopped}; the same command goes on.")
        return 128 + stopped.signum
    finally:
        lock.release()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _check_libraries() -> None:
    missing = [name for module, name in _LIBRARIES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"transfer needs {' and '.join(missing)}; install it with pip install 'inceptionnext-lit[transfer]'."
        )


def _check_folder(folder: Path) -> None:
    """Refuse a folder with other files: tables are replaced without asking."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; give a folder.")
    if (
        folder.is_dir()
        and not (folder / "cells").is_dir()
        and any(not p.name.startswith(".") for p in folder.iterdir())
    ):
        raise UserError(f"--output {folder} has other files in it; give a new folder, or one written by transfer.")


def _device(name: str | None) -> "torch.device":
    import torch

    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(chosen)
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"The device {chosen!r} cannot be used here; leave out --device, or give cpu.") from error
    return device


def _parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = ToolParser("transfer", f"{sentence(TOOLS['transfer'])}\n\n{EXAMPLES}")
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="names, NAME=FILE, NAME=random, checkpoints")
    add("--data", nargs="+", action="extend", metavar="FOLDER_OR_NAME", help="data sets")
    add(
        "--protocol",
        nargs="+",
        action="extend",
        choices=_PROTOCOLS,
        metavar="|".join(_PROTOCOLS),
        help="one or several: fine-tune all layers, logistic regression on features, nearest neighbors of features",
    )
    add("--seeds", type=positive, default=3, metavar="N", help="number of seeds, from 0 (default: 3)")
    add("--output", type=file_path, metavar="FOLDER", help="results, features, runs and tables")
    add(
        "--lr_grid",
        nargs="+",
        type=_rate,
        metavar="LR",
        help="learning rates of finetune to choose from on the validation images, with the first seed",
    )
    add("--config", action="append", metavar="RECIPE", help=f"recipe of finetune, and overlays (default: {RECIPE})")
    add("--cache", type=file_path, metavar="FOLDER", help="features (default: features in the output folder)")
    add("--precision", choices=("float32", "float16"), default="float32", help="of features on disk (default: float32)")
    add("--max_iter", type=positive, default=1000, metavar="N", help="of linear, per penalty (default: 1000)")
    add("--batch_size", type=positive, default=64, metavar="N", help="images per batch of features (default: 64)")
    add("--num_workers", type=whole_number, metavar="N", help="loader processes (default: the cores, at most 8)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    own, further = _split(words)
    options = parser.parse_intermixed_args(own)
    for key, value in (("--data", options.data), ("--protocol", options.protocol), ("--output", options.output)):
        if value is None:
            parser.error(f"the following arguments are required: {key}")
    if "finetune" not in options.protocol:
        given = {"--lr_grid": options.lr_grid, "--config": options.config, further[0] if further else "": further}
        for key, value in given.items():
            if value:
                parser.error(f"{key} is for the protocol finetune; add --protocol finetune, or leave it out.")
    for word in further:
        if (key := word.partition("=")[0]).startswith(_TAKEN):
            parser.error(f"{key} is set by transfer for each model and data set; leave it out.")
        if key == "--model.lr" and options.lr_grid:
            parser.error("--model.lr and --lr_grid do not go together; leave out one of them.")
    return options, further


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the command's own arguments, and the keys of fit with their values."""
    own, further = [], list[str]()
    place = 0
    while place < len(words):
        if words[place].startswith(_PARTS):
            has_value = "=" not in words[place] and place + 1 < len(words)
            further += words[place : place + 1 + has_value]
            place += 1 + has_value
        else:
            own.append(words[place])
            place += 1
    return own, further


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate above 0")
    return value
